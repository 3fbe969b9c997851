// rmsnorm_fwd — y[r,c] = x[r,c] * rstd[r] * w[c], rstd[r] = 1 / sqrt(mean_c(x²) + eps); saves rstd where asked for
// Shapes: x, y [R,C] without gaps; w [C]; rstd [R] f32 or null.  C and the pointers may be unaligned (slower)
// Dtypes: x, y f32 | bf16 | f16; w any of them; accumulates in f32.  Arch: sm_80+
// Bytes: 2·R·C·e + C·e + 4·R.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: one block a row; 16-byte loads; up to 4 packs a thread stay in registers between the two passes
// Numerics: fixed reduction order, deterministic.  Aliasing: y may be x
#include "../common/reduce.cuh"
#include "../common/types.cuh"

struct RmsNormForwardParams {
    const void* x;
    const void* w;
    void* y;
    float* rstd;
    long long rows;
    int columns;
    int w_type;
    float eps;
    int vectors;  // nonzero: pointers and columns allow 16-byte accesses
};

template <typename T> __device__ void rmsnorm_forward(const RmsNormForwardParams& p) {
    constexpr int N = Pack<T>::N, Kept = 4;
    __shared__ float shared[33];
    const T* x = (const T*)p.x + (long long)blockIdx.x * p.columns;
    T* y = (T*)p.y + (long long)blockIdx.x * p.columns;
    float sum = 0;
    if (p.vectors && p.columns <= Kept * N * (int)blockDim.x) {
        float row[Kept][N];
#pragma unroll
        for (int k = 0; k < Kept; k++) {
            int c = (k * blockDim.x + threadIdx.x) * N;
            if (c < p.columns) {
                Pack<T>::load(x + c, row[k]);
#pragma unroll
                for (int i = 0; i < N; i++) sum += row[k][i] * row[k][i];
            }
        }
        float rstd = 1.0f / sqrtf(block_sum(sum, shared) / p.columns + p.eps);
#pragma unroll
        for (int k = 0; k < Kept; k++) {
            int c = (k * blockDim.x + threadIdx.x) * N;
            if (c < p.columns) {
                float w[N];
                load_any_pack(p.w, c, p.w_type, w);
#pragma unroll
                for (int i = 0; i < N; i++) row[k][i] = row[k][i] * rstd * w[i];
                Pack<T>::store(y + c, row[k]);
            }
        }
        if (p.rstd && threadIdx.x == 0) p.rstd[blockIdx.x] = rstd;
        return;
    }
    for (int c = threadIdx.x; c < p.columns; c += blockDim.x) {
        float v = to_float(x[c]);
        sum += v * v;
    }
    float rstd = 1.0f / sqrtf(block_sum(sum, shared) / p.columns + p.eps);
    for (int c = threadIdx.x; c < p.columns; c += blockDim.x)
        y[c] = from_float<T>(to_float(x[c]) * rstd * load_any(p.w, c, p.w_type));
    if (p.rstd && threadIdx.x == 0) p.rstd[blockIdx.x] = rstd;
}

ENGINE_KERNEL(rmsnorm_fwd, RmsNormForwardParams, 512, rmsnorm_forward)
