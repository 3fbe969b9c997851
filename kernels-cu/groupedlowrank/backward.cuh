// groupedlowrank_bwd_ds — dS[p] = scale·dy[row(p)]·B, as sums over splits of N
// groupedlowrank_bwd_dx — dx[row(p)] += dS[p]·A
// groupedlowrank_bwd_dw — dA += Σ_p dS[p]ᵀ·x[row(p)] and dB += Σ_p dy[row(p)]ᵀ·S[p] over each adapter's positions
// Shapes: x, dx [R,K], dy [R,N] with row strides; S, dS f32 [splits][positions][stride]; dA [rank,K], dB [N,rank] f32 without gaps
// Dtypes: x, dy, dx, A, B: bf16 | f16 | f32, accumulates in f32.  Arch: sm_80+
// Flops: 2·rows·rank·(2K + 2N).  Bound: fused multiply-adds from shared memory, not tuned
// Algorithm: ds: block (tile, split, 16 ranks), a thread holds one rank of some rows; dx: block (tile, 64 columns); dw: block (64
//            columns, segment, 16 ranks of dA or of dB) walks the segment's positions
// Numerics: fixed order, deterministic; an adapter's gradients come from one block each
#pragma once
#include "params.cuh"

constexpr int BackwardThreads = 256, BackwardRanks = 16, BackwardColumns = 64, BackwardDepth = 32;

struct BackwardParams {
    const void* dy;
    const void* x;
    void* dx;
    const GroupedAdapter* table;
    const GroupedGradient* gradients;
    RowPlan plan;
    SplitSums sums;    // S
    SplitSums d_sums;  // dS
    long long dy_stride;
    long long x_stride;
    long long dx_stride;
    int adapters;
    int inputs;
    int outputs;
    int split_outputs;
    int tile;
};

template <typename T, int Rows> __device__ __forceinline__ void backward_ds(const BackwardParams& p, int4 tile) {
    __shared__ float dy[Rows][BackwardDepth + 1], b[BackwardDepth][BackwardRanks + 1];
    GroupedAdapter adapter = adapter_of(p.table, p.adapters, tile.x);
    int rank0 = blockIdx.z * BackwardRanks;
    if (rank0 >= adapter.rank) return;
    int j = threadIdx.x % BackwardRanks, m = threadIdx.x / BackwardRanks;
    int begin = blockIdx.y * p.split_outputs, end = min(p.outputs, begin + p.split_outputs);
    float sum[Rows / 16] = {};
    for (int n0 = begin; n0 < end; n0 += BackwardDepth) {
        __syncthreads();
        for (int i = threadIdx.x; i < Rows * BackwardDepth; i += BackwardThreads) {
            int row = i / BackwardDepth, n = i % BackwardDepth;
            dy[row][n] = row < tile.z && n0 + n < end
                             ? to_float(((const T*)p.dy)[p.plan.row(tile.y + row) * p.dy_stride + n0 + n])
                             : 0.0f;
        }
        for (int i = threadIdx.x; i < BackwardDepth * BackwardRanks; i += BackwardThreads) {
            int n = i / BackwardRanks, r = i % BackwardRanks;
            b[n][r] = n0 + n < end && rank0 + r < adapter.rank
                          ? to_float(((const T*)adapter.b)[(long long)(n0 + n) * adapter.b_stride + rank0 + r])
                          : 0.0f;
        }
        __syncthreads();
#pragma unroll 8
        for (int n = 0; n < BackwardDepth; n++)
#pragma unroll
            for (int i = 0; i < Rows / 16; i++) sum[i] = fmaf(dy[m + 16 * i][n], b[n][j], sum[i]);
    }
#pragma unroll
    for (int i = 0; i < Rows / 16; i++)
        if (m + 16 * i < tile.z && rank0 + j < adapter.rank)
            p.d_sums.store(blockIdx.y, tile.y + m + 16 * i, rank0 + j, adapter.scale * sum[i]);
}

template <typename T, int Rows> __device__ __forceinline__ void backward_dx(const BackwardParams& p, int4 tile) {
    __shared__ float ds[Rows][BackwardRanks + 1], a[BackwardRanks][BackwardColumns];
    GroupedAdapter adapter = adapter_of(p.table, p.adapters, tile.x);
    int c = threadIdx.x % BackwardColumns, m = threadIdx.x / BackwardColumns, c0 = blockIdx.y * BackwardColumns;
    float sum[Rows / 4] = {};
    for (int rank0 = 0; rank0 < adapter.rank; rank0 += BackwardRanks) {
        __syncthreads();
        for (int i = threadIdx.x; i < Rows * BackwardRanks; i += BackwardThreads) {
            int row = i / BackwardRanks, r = i % BackwardRanks;
            ds[row][r] = row < tile.z && rank0 + r < adapter.rank ? p.d_sums.sum(tile.y + row, rank0 + r) : 0.0f;
        }
        for (int i = threadIdx.x; i < BackwardRanks * BackwardColumns; i += BackwardThreads) {
            int r = i / BackwardColumns, k = i % BackwardColumns;
            a[r][k] = rank0 + r < adapter.rank && c0 + k < p.inputs
                          ? to_float(((const T*)adapter.a)[(long long)(rank0 + r) * adapter.a_stride + c0 + k])
                          : 0.0f;
        }
        __syncthreads();
#pragma unroll 4
        for (int r = 0; r < BackwardRanks; r++)
#pragma unroll
            for (int i = 0; i < Rows / 4; i++) sum[i] = fmaf(ds[m + 4 * i][r], a[r][c], sum[i]);
    }
    if (adapter.rank == 0 || c0 + c >= p.inputs) return;
#pragma unroll
    for (int i = 0; i < Rows / 4; i++) {
        if (m + 4 * i >= tile.z) continue;
        T* to = (T*)p.dx + p.plan.row(tile.y + m + 4 * i) * p.dx_stride + c0 + c;
        *to = from_float<T>(to_float(*to) + sum[i]);
    }
}

template <typename T> __device__ __forceinline__ void bwd_ds_body(const BackwardParams& p) {
    int4 tile = p.plan.tile(blockIdx.x);
    if (tile.z == 0) return;
    if (p.tile == 16) backward_ds<T, 16>(p, tile);
    else backward_ds<T, 64>(p, tile);
}

template <typename T> __device__ __forceinline__ void bwd_dx_body(const BackwardParams& p) {
    int4 tile = p.plan.tile(blockIdx.x);
    if (tile.z == 0) return;
    if (p.tile == 16) backward_dx<T, 16>(p, tile);
    else backward_dx<T, 64>(p, tile);
}

template <typename T> __device__ __forceinline__ void bwd_dw_body(const BackwardParams& p) {
    __shared__ float left[BackwardDepth][BackwardRanks + 1], right[BackwardDepth][BackwardColumns];
    if ((int)blockIdx.y >= p.plan.segments()) return;
    int4 segment = p.plan.segment(blockIdx.y);
    GroupedAdapter adapter = adapter_of(p.table, p.adapters, segment.x);
    bool is_a = (blockIdx.z & 1) == 0;
    int rank0 = (blockIdx.z >> 1) * BackwardRanks, c0 = blockIdx.x * BackwardColumns;
    int columns = is_a ? p.inputs : p.outputs;
    if (rank0 >= adapter.rank || c0 >= columns) return;
    float* to = is_a ? p.gradients[segment.x].a : p.gradients[segment.x].b;
    if (to == nullptr) return;
    const T* rows = (const T*)(is_a ? p.x : p.dy);
    long long stride = is_a ? p.x_stride : p.dy_stride;
    const SplitSums& sums = is_a ? p.d_sums : p.sums;
    int c = threadIdx.x % BackwardColumns, j = threadIdx.x / BackwardColumns;
    float sum[BackwardRanks / 4] = {};
    for (int at = segment.y; at < segment.z; at += BackwardDepth) {
        __syncthreads();
        for (int i = threadIdx.x; i < BackwardDepth * BackwardRanks; i += BackwardThreads) {
            int m = i / BackwardRanks, r = i % BackwardRanks;
            left[m][r] = at + m < segment.z && rank0 + r < adapter.rank ? sums.sum(at + m, rank0 + r) : 0.0f;
        }
        for (int i = threadIdx.x; i < BackwardDepth * BackwardColumns; i += BackwardThreads) {
            int m = i / BackwardColumns, k = i % BackwardColumns;
            right[m][k] = at + m < segment.z && c0 + k < columns ? to_float(rows[p.plan.row(at + m) * stride + c0 + k]) : 0.0f;
        }
        __syncthreads();
#pragma unroll 8
        for (int m = 0; m < BackwardDepth; m++)
#pragma unroll
            for (int i = 0; i < BackwardRanks / 4; i++) sum[i] = fmaf(left[m][j + 4 * i], right[m][c], sum[i]);
    }
    if (c0 + c >= columns) return;
#pragma unroll
    for (int i = 0; i < BackwardRanks / 4; i++) {
        int r = rank0 + j + 4 * i;
        if (r >= adapter.rank) continue;
        to[is_a ? (long long)r * p.inputs + c0 + c : (long long)(c0 + c) * adapter.rank + r] += sum[i];
    }
}

ENGINE_KERNEL(groupedlowrank_bwd_ds, BackwardParams, BackwardThreads, bwd_ds_body)
ENGINE_KERNEL(groupedlowrank_bwd_dx, BackwardParams, BackwardThreads, bwd_dx_body)
ENGINE_KERNEL(groupedlowrank_bwd_dw, BackwardParams, BackwardThreads, bwd_dw_body)
