// groupedlowrank_forward_r16 — y[row(p)] += scale·(x[row(p)]·Aᵀ)·Bᵀ for tables of up to 16 ranks
// Shapes, dtypes, numerics: those of groupedlowrank_forward_t16; the same bits
// Bytes: e·(ranks·(K + N) + rows·(K + 2·N)).  Bound: memory and latency
// Algorithm: block (part, tile), both halves in one: it sends for its split of A and of x, then, by cp.async, for its 512 rows of B,
//            computes its split of the tile's S while B is on its way, waits for the tile's other splits and ends its 512 outputs,
//            whose old values it has sent for before it waits. So each block looks up its tile and adapter once, and 64 tiles of
//            4096² are on their way at once where the two halves as blocks of their own were two rounds of blocks
// Progress: blocks begin in the order of their indices, those of a tile are neighbours, and each has stored its split before it
//           waits; the GPU holds all splits of a tile at once, for which its launcher sees to it that they are no more than its
//           multiprocessors.  The last block of a tile to have seen its sums sets the tile's counters back to 0
// Versions: v1 10.5 µs for 64 rows with as many adapters of rank 16, 4096², where forward_t16 takes 12.5; 8 adapters 9.5 for 10.7 (a
//           harness that replays a graph, H200, 2026-11-27)
#pragma once
#include "forward.cuh"

constexpr int MostDecodeRanks = 16, DecodePitch = MostDecodeRanks + 8, PartialPitch = 20;

// This block's rows of B to shared memory, [512][16]; zeros behind the last row and rank.
template <typename T> __device__ __forceinline__ void copy_b(const GroupedAdapter& adapter, int n0, int outputs, T* to) {
#pragma unroll
    for (int j = 0; j < ExpandOutputs * 2 / GroupedThreads; j++) {
        int i = threadIdx.x + j * GroupedThreads, n = n0 + i / 2, k = i % 2 * 8;
        bool copy = n < outputs && k < adapter.b_stride;
        copy_async_16(to + 8 * i, (const T*)adapter.b + (copy ? (long long)n * adapter.b_stride + k : 0), copy);
    }
}

// This block's split of the tile's S. `loaded` is called when the first columns have been sent for.
template <typename T, int NT, bool V, typename Loaded>
__device__ __forceinline__ void shrink_split(
    const ShrinkParams& p, const GroupedAdapter& adapter, int4 tile, int split, float (*partial)[16 * PartialPitch], Loaded&& loaded) {
    constexpr int Unroll = 4, Turn = 32 * GroupedWarps * Unroll;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
    int begin = split * p.split_inputs, end = min(p.inputs, begin + p.split_inputs);
    const T *x[NT], *a = (const T*)adapter.a + (long long)g * adapter.a_stride;
#pragma unroll
    for (int i = 0; i < NT; i++) x[i] = (const T*)p.x + (8 * i + g < tile.z ? p.plan.row(tile.y + 8 * i + g) * p.x_stride : 0);
    uint4 a0[Unroll], a1[Unroll], b[Unroll][NT];
    auto load = [&](int at) {
        const uint4 zero = make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int u = 0; u < Unroll; u++) {
            int k = at + 32 * GroupedWarps * u + 8 * q;
            bool inside = k < end;
            a0[u] = inside && g < adapter.rank ? load_stream(a + k) : zero;
            a1[u] = inside && g + 8 < adapter.rank ? load_stream(a + 8 * (long long)adapter.a_stride + k) : zero;
#pragma unroll
            for (int i = 0; i < NT; i++) b[u][i] = inside && 8 * i + g < tile.z ? load8<T, V>(x[i], k, p.inputs) : zero;
        }
    };
    float c[NT][4] = {};
    load(begin + 32 * warp);
    loaded();
    for (int at = begin + 32 * warp; at < end; at += Turn) {
        if (at > begin + 32 * warp) load(at);
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
#pragma unroll
    for (int i = 0; i < NT; i++) {
        float* to = partial[warp] + (8 * i + 2 * q) * PartialPitch + g;
        to[0] = c[i][0], to[PartialPitch] = c[i][1], to[8] = c[i][2], to[PartialPitch + 8] = c[i][3];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < tile.z * 16; i += GroupedThreads) {
        int m = i >> 4, j = i & 15;
        if (j >= adapter.rank) continue;
        float sum = 0;
#pragma unroll
        for (int w = 0; w < GroupedWarps; w++) sum += partial[w][m * PartialPitch + j];
        p.sums.store(split, tile.y + m, j, adapter.scale * sum);
    }
}

template <typename T> __device__ __forceinline__ void grouped_forward_r16(const GroupedForwardParams& p) {
    __shared__ float partial[GroupedWarps][16 * PartialPitch];
    __shared__ uint4 b_shared[ExpandOutputs * MostDecodeRanks / 8];
    __shared__ uint4 s_shared[16 * DecodePitch / 8];
    int part = blockIdx.x, splits = p.shrink.sums.splits;
    int4 tile = p.expand.plan.tile(blockIdx.y);
    if (tile.z == 0) return;
    GroupedAdapter adapter = adapter_of(p.expand.table, p.expand.adapters, tile.x);
    if (adapter.rank == 0) return;
    T *b = reinterpret_cast<T*>(b_shared), *s = reinterpret_cast<T*>(s_shared);
    unsigned int* counters = p.counters + 2 * blockIdx.y;
    auto send_for_b = [&]() {
        if (part < p.parts) copy_b<T>(adapter, part * ExpandOutputs, p.expand.outputs, b);
    };
    if (part < splits) {
        if (!p.shrink.vectors) shrink_split<T, 2, false>(p.shrink, adapter, tile, part, partial, send_for_b);
        else if (tile.z <= 8) shrink_split<T, 1, true>(p.shrink, adapter, tile, part, partial, send_for_b);
        else shrink_split<T, 2, true>(p.shrink, adapter, tile, part, partial, send_for_b);
        // All stores of the block are visible on the device before the counter says so.
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) atomicAdd(counters, 1u);
    } else {
        send_for_b();
    }
    if (part >= p.parts) return;

    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
    int n0 = part * ExpandOutputs + warp * WarpOutputs;
    T* y = (T*)p.expand.y + (g < tile.z ? p.expand.plan.row(tile.y + g) * p.expand.y_stride : 0);
    // The first 8 rows' old values, where they can be read 16 bytes at a time.
    uint4 old[WarpOutputs / 32];
#pragma unroll
    for (int i = 0; i < WarpOutputs / 32; i++) {
        int n = n0 + 32 * i + 8 * q;
        if (p.expand.vectors && g < tile.z && n + 8 <= p.expand.outputs) old[i] = *reinterpret_cast<const uint4*>(y + n);
    }
    if (threadIdx.x == 0) {
        while (load_acquire(counters) < (unsigned int)splits) __nanosleep(20);
        if (atomicAdd(counters + 1, 1u) == p.parts - 1) counters[0] = counters[1] = 0;
    }
    wait_for_copies();
    __syncthreads();
    for (int i = threadIdx.x; i < 16 * 16; i += GroupedThreads) {
        int m = i / 16, j = i % 16;
        s[m * DecodePitch + j] = from_float<T>(m < tile.z && j < adapter.rank ? p.expand.sums.sum(tile.y + m, j) : 0.0f);
    }
    __syncthreads();
    uint2 upper = *reinterpret_cast<const uint2*>(s + g * DecodePitch + 4 * q);
    uint2 lower = *reinterpret_cast<const uint2*>(s + (g + 8) * DecodePitch + 4 * q);
    uint32_t a[4] = {upper.x, lower.x, upper.y, lower.y};
#pragma unroll
    for (int i = 0; i < WarpOutputs / 32; i++) {
        float c[4][4] = {};
#pragma unroll
        for (int n = 0; n < 4; n++) {
            // Outputs of four instructions are interleaved: a lane ends with 8 neighbours.
            int row = warp * WarpOutputs + 32 * i + (g >> 1) * 8 + 2 * n + (g & 1);
            uint2 right = *reinterpret_cast<const uint2*>(b + row * MostDecodeRanks + 4 * q);
            mma<T>(c[n], a, right.x, right.y);
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int m = 8 * half + g, n = n0 + 32 * i + 8 * q;
            if (m >= tile.z) continue;
            float sum[8];
#pragma unroll
            for (int k = 0; k < 4; k++) sum[2 * k] = c[k][2 * half], sum[2 * k + 1] = c[k][2 * half + 1];
            if (half == 0 && p.expand.vectors && n + 8 <= p.expand.outputs) {
                float x[8];
                Pack<T>::load(reinterpret_cast<const T*>(&old[i]), x);
#pragma unroll
                for (int k = 0; k < 8; k++) x[k] += sum[k];
                Pack<T>::store(y + n, x);
                continue;
            }
            T* to = half == 0 ? y : (T*)p.expand.y + p.expand.plan.row(tile.y + m) * p.expand.y_stride;
            add_outputs<T>(to, n, p.expand.outputs, p.expand.vectors, sum);
        }
    }
}

ENGINE_PARAMS(groupedlowrank_forward_r16, GroupedForwardParams)
extern "C" __global__ void __launch_bounds__(GroupedThreads, 4) groupedlowrank_forward_r16_bf16(const GroupedForwardParams p) {
    grouped_forward_r16<bf16>(p);
}
extern "C" __global__ void __launch_bounds__(GroupedThreads, 4) groupedlowrank_forward_r16_f16(const GroupedForwardParams p) {
    grouped_forward_r16<f16>(p);
}
