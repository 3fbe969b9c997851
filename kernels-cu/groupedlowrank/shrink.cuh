// groupedlowrank_shrink_t16, _t64 — S[p] = scale·x[row(p)]·Aᵀ of the adapter of position p, as sums over splits of K
// Shapes: x [R,K] with a row stride; A of the table; S f32 [splits][positions][stride].  16-bit: 16-byte loads of x where address,
//         stride and K allow
// Dtypes: bf16 | f16 by tensor cores, f32 by fused multiply-adds (tiles of 16), accumulates in f32.  Arch: sm_80+
// Bytes: e·(ranks·K + rows·K) + 4·splits·rows·rank.  Bound: memory; with the expansion ≤ 10 µs for 64 adapters of rank 16 on 4096²
// Algorithm: block (tile, split, slice of 64 ranks) of 4 warps that take turns at 32 columns; A is the left operand (16 ranks), x
//            the right one (8 rows). The order of the columns in a product is free, so a lane's 16 bytes, 8 neighbours, are what
//            it needs for two instructions: nothing goes through shared memory but the warps' sums
// Numerics: fixed order, deterministic; K is cut by the sizes alone
#pragma once
#include "../common/memory.cuh"
#include "params.cuh"

constexpr int GroupedThreads = 128, GroupedWarps = GroupedThreads / 32, SliceRanks = 64;

struct ShrinkParams {
    const void* x;
    const GroupedAdapter* table;
    RowPlan plan;
    SplitSums sums;
    long long x_stride;
    int adapters;
    int inputs;
    int split_inputs;  // a multiple of 128
    int vectors;
};

// 8 neighbours from column k on; zeros past the end.
template <typename T, bool V> __device__ __forceinline__ uint4 load8(const T* row, int k, int columns) {
    if constexpr (V) return *reinterpret_cast<const uint4*>(row + k);
    uint32_t raw[4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int c = k + 2 * i;
        uint32_t low = c < columns ? reinterpret_cast<const uint16_t*>(row)[c] : 0;
        uint32_t high = c + 1 < columns ? reinterpret_cast<const uint16_t*>(row)[c + 1] : 0;
        raw[i] = low | high << 16;
    }
    return make_uint4(raw[0], raw[1], raw[2], raw[3]);
}

template <typename T, int NT, bool V>
__device__ __forceinline__ void shrink_product(
    const ShrinkParams& p, const GroupedAdapter& adapter, int split, int rank0, const int (&rows)[NT], float (&c)[NT][4]) {
    constexpr int Unroll = NT <= 2 ? 4 : 1;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
    int begin = split * p.split_inputs, end = min(p.inputs, begin + p.split_inputs);
    const T* a = (const T*)adapter.a + (long long)(rank0 + g) * adapter.a_stride;
    bool first = rank0 + g < adapter.rank, second = rank0 + g + 8 < adapter.rank;
    const uint4 zero = make_uint4(0, 0, 0, 0);
    for (int at = begin + 32 * warp; at < end; at += 32 * GroupedWarps * Unroll) {
        uint4 a0[Unroll], a1[Unroll], b[Unroll][NT];
#pragma unroll
        for (int u = 0; u < Unroll; u++) {
            int k = at + 32 * GroupedWarps * u + 8 * q;
            bool inside = k < end;
            a0[u] = inside && first ? load_stream(a + k) : zero;
            a1[u] = inside && second ? load_stream(a + 8 * (long long)adapter.a_stride + k) : zero;
#pragma unroll
            for (int i = 0; i < NT; i++)
                b[u][i] = inside && rows[i] >= 0 ? load8<T, V>((const T*)p.x + rows[i] * p.x_stride, k, p.inputs) : zero;
        }
#pragma unroll
        for (int u = 0; u < Unroll; u++) {
            uint32_t low[4] = {a0[u].x, a1[u].x, a0[u].y, a1[u].y}, high[4] = {a0[u].z, a1[u].z, a0[u].w, a1[u].w};
#pragma unroll
            for (int i = 0; i < NT; i++) {
                mma<T>(c[i], low, b[u][i].x, b[u][i].y);
                mma<T>(c[i], high, b[u][i].z, b[u][i].w);
            }
        }
    }
}

// False, for the whole block, where there is nothing to do.
template <typename T, int NT> __device__ __forceinline__ bool shrink_body(const ShrinkParams& p, int at, int split, int slice) {
    constexpr int Rows = 8 * NT, Pitch = 20;  // 20: the stores of a warp fall on 32 banks
    __shared__ float partial[GroupedWarps][Rows * Pitch];
    int4 tile = p.plan.tile(at);
    if (tile.z == 0) return false;
    GroupedAdapter adapter = adapter_of(p.table, p.adapters, tile.x);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
    int begin = slice * SliceRanks, end = min(adapter.rank, begin + SliceRanks);
    if (begin >= end) return false;
    int rows[NT];
#pragma unroll
    for (int i = 0; i < NT; i++) rows[i] = 8 * i + g < tile.z ? p.plan.row(tile.y + 8 * i + g) : -1;
    for (int rank0 = begin; rank0 < end; rank0 += 16) {
        float c[NT][4] = {};
        if (p.vectors) shrink_product<T, NT, true>(p, adapter, split, rank0, rows, c);
        else shrink_product<T, NT, false>(p, adapter, split, rank0, rows, c);
        if (rank0 > begin) __syncthreads();
#pragma unroll
        for (int i = 0; i < NT; i++) {
            float* to = partial[warp] + (8 * i + 2 * q) * Pitch + g;
            to[0] = c[i][0], to[Pitch] = c[i][1], to[8] = c[i][2], to[Pitch + 8] = c[i][3];
        }
        __syncthreads();
        for (int i = threadIdx.x; i < tile.z * 16; i += GroupedThreads) {
            int m = i >> 4, j = i & 15;
            if (rank0 + j >= end) continue;
            float sum = 0;
#pragma unroll
            for (int w = 0; w < GroupedWarps; w++) sum += partial[w][m * Pitch + j];
            p.sums.store(split, tile.y + m, rank0 + j, adapter.scale * sum);
        }
    }
    return true;
}

// A warp takes every fourth rank; its lanes share the columns of 8 rows at a time.
__device__ __forceinline__ void shrink_f32(const ShrinkParams& p) {
    int4 tile = p.plan.tile(blockIdx.x);
    if (tile.z == 0) return;
    GroupedAdapter adapter = adapter_of(p.table, p.adapters, tile.x);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int begin = blockIdx.y * p.split_inputs, end = min(p.inputs, begin + p.split_inputs);
    int last = min(adapter.rank, (int)(blockIdx.z + 1) * SliceRanks);
    for (int j = blockIdx.z * SliceRanks + warp; j < last; j += GroupedWarps) {
        const float* a = (const float*)adapter.a + (long long)j * adapter.a_stride;
        for (int m = 0; m < tile.z; m += 8) {
            const float* x[8];
            float sum[8];
#pragma unroll
            for (int i = 0; i < 8; i++) {
                // Rows past the end repeat the last one and are not stored.
                x[i] = (const float*)p.x + p.plan.row(tile.y + min(m + i, tile.z - 1)) * p.x_stride;
                sum[i] = 0;
            }
            for (int k = begin + lane; k < end; k += 32) {
                float w = a[k];
#pragma unroll
                for (int i = 0; i < 8; i++) sum[i] = fmaf(w, x[i][k], sum[i]);
            }
#pragma unroll
            for (int i = 0; i < 8; i++) {
#pragma unroll
                for (int d = 16; d > 0; d >>= 1) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], d);
                if (lane == 0 && m + i < tile.z) p.sums.store(blockIdx.y, tile.y + m + i, j, adapter.scale * sum[i]);
            }
        }
    }
}

ENGINE_PARAMS(groupedlowrank_shrink_t16, ShrinkParams)
ENGINE_PARAMS(groupedlowrank_shrink_t64, ShrinkParams)
extern "C" __global__ void __launch_bounds__(GroupedThreads) groupedlowrank_shrink_t16_f32(const ShrinkParams p) { shrink_f32(p); }
extern "C" __global__ void __launch_bounds__(GroupedThreads) groupedlowrank_shrink_t16_bf16(const ShrinkParams p) {
    shrink_body<bf16, 2>(p, blockIdx.x, blockIdx.y, blockIdx.z);
}
extern "C" __global__ void __launch_bounds__(GroupedThreads) groupedlowrank_shrink_t16_f16(const ShrinkParams p) {
    shrink_body<f16, 2>(p, blockIdx.x, blockIdx.y, blockIdx.z);
}
extern "C" __global__ void __launch_bounds__(GroupedThreads) groupedlowrank_shrink_t64_bf16(const ShrinkParams p) {
    shrink_body<bf16, 8>(p, blockIdx.x, blockIdx.y, blockIdx.z);
}
extern "C" __global__ void __launch_bounds__(GroupedThreads) groupedlowrank_shrink_t64_f16(const ShrinkParams p) {
    shrink_body<f16, 8>(p, blockIdx.x, blockIdx.y, blockIdx.z);
}
