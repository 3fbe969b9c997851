// lowrank_scale — F[m,j] = dS[m,j]·rstd[m]; for LayerNorm each block's sums over its rows of F[m,j]·mean[m] and of dS[m,j]
//   where lowrank_sum, which forms dS, did not do so at once
// Shapes: dS [M,R], row stride and R multiples of 8, R at most 64; F [M,R] without gaps; rstd, mean [M] f32; all but those
//   aligned to 16 bytes
// Dtypes: bf16 (f16 lacks the range: rstd may be anything), f32 sums.  Arch: sm_80+
// Bytes: 2·M·R·e.  Bound: latency; a hundredth of what lowrank_grad_x reads next
// Algorithm: a block owns a range of rows; a thread keeps to one 16-byte piece of the row and sums it over every n-th row, the
//   threads' sums are added up in pairs through shared memory. lowrank_sum adds up the blocks'.
// Numerics: the sums take F as it was rounded, so that its rounding acts on x − mean and not on x. Deterministic: blocks depend on
//   shapes alone.  Aliasing: F is not dS
#pragma once
#include "../common/types.cuh"

constexpr int ScaleThreads = 256;

struct LowRankScaleParams {
    const void* ds;
    void* f;
    const float* rstd;
    const float* mean;  // or null: no sums
    float* partial;     // [blocks][2][width]
    long long ds_stride;
    long long rows;
    int width;
    int block_rows;
};

template <typename T> __device__ __forceinline__ void lowrank_scale(const LowRankScaleParams& p) {
    constexpr int N = Pack<T>::N;
    __shared__ float sums[2][N][ScaleThreads];
    int pieces = p.width / N, lanes = ScaleThreads / pieces, piece = threadIdx.x % pieces, lane = threadIdx.x / pieces;
    long long first = (long long)blockIdx.x * p.block_rows, end = min(first + p.block_rows, p.rows);
    float means[N], totals[N];
#pragma unroll
    for (int i = 0; i < N; i++) means[i] = totals[i] = 0;
    if (lane < lanes)
        for (long long row = first + lane; row < end; row += lanes) {
            float x[N], f[N], rstd = p.rstd[row], mean = p.mean ? p.mean[row] : 0;
            Pack<T>::load((const T*)p.ds + row * p.ds_stride + piece * N, x);
#pragma unroll
            for (int i = 0; i < N; i++) {
                f[i] = to_float(from_float<T>(x[i] * rstd));
                means[i] += f[i] * mean;
                totals[i] += x[i];
            }
            Pack<T>::store((T*)p.f + row * p.width + piece * N, f);
        }
    if (!p.mean) return;
#pragma unroll
    for (int i = 0; i < N; i++) sums[0][i][threadIdx.x] = means[i], sums[1][i][threadIdx.x] = totals[i];
    for (int n = lanes; n > 1;) {
        int half = (n + 1) / 2;
        __syncthreads();
        if (lane < n - half) {
            int other = threadIdx.x + half * pieces;
#pragma unroll
            for (int i = 0; i < N; i++) {
                sums[0][i][threadIdx.x] += sums[0][i][other];
                sums[1][i][threadIdx.x] += sums[1][i][other];
            }
        }
        n = half;
    }
    if (lane > 0) return;
    float* to = p.partial + (long long)blockIdx.x * 2 * p.width + piece * N;
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = sums[0][i][threadIdx.x], to[p.width + i] = sums[1][i][threadIdx.x];
}
