// groupedlowrank_forward_t16 — the shrinking and the expanding kernel in one launch: y[row(p)] += scale·(x[row(p)]·Aᵀ)·Bᵀ
// Shapes, dtypes, numerics: those of the two for tiles of 16 rows and 16-bit activations; the same bits
// Bytes: e·(ranks·(K + N) + rows·(K + 2·N)).  Bound: latency and memory
// Algorithm: blocks (tile, split and slice) that shrink come first in the grid, then those (tile, part) that expand; the latter have loaded their rows of B when they
//            wait for their tile's sums, so that A and B are read at the same time
// Progress: blocks begin in the order of their indices, and those that shrink wait for nobody.  The last block of a tile to have
//           seen its sums sets the tile's counters back to 0, as the next launch on the stream, or the next replay, finds them
// Versions: v1, two launches after a product: 12.2 µs for 64 rows with as many adapters, 4096², r 16 (H200, 2026-11-27). The
//           first beside the product, on a second stream, gained nothing: edges between streams cost what it hid (H100).
//           v2, one launch: 16.3 µs alone, launch included, where the two took 17.2 (H100, 2026-11-27)
#pragma once
#include "expand.cuh"
#include "shrink.cuh"

struct GroupedForwardParams {
    ShrinkParams shrink;
    ExpandParams expand;
    unsigned int* counters;  // for each tile: blocks that have shrunk, blocks that have seen it
    int slices;  // of 64 ranks
    int parts;   // of 512 outputs
};

template <typename T> __device__ __forceinline__ void grouped_forward(const GroupedForwardParams& p) {
    int tile = blockIdx.x, splits = p.shrink.sums.splits, part = blockIdx.y - splits * p.slices;
    if (part < 0) {
        if (!shrink_body<T, 2>(p.shrink, tile, blockIdx.y % splits, blockIdx.y / splits)) return;
        // All stores of the block are visible on the device before the counter says so.
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) atomicAdd(p.counters + 2 * tile, 1u);
        return;
    }
    expand_body<T, 1>(p.expand, tile, part, [&](const GroupedAdapter& adapter) {
        unsigned int* counters = p.counters + 2 * tile;
        if (threadIdx.x == 0) {
            unsigned int expected = splits * ((adapter.rank + SliceRanks - 1) / SliceRanks);
            while (load_acquire(counters) < expected) __nanosleep(40);
            if (atomicAdd(counters + 1, 1u) == p.parts - 1) counters[0] = counters[1] = 0;
        }
        __syncthreads();
    });
}

ENGINE_PARAMS(groupedlowrank_forward_t16, GroupedForwardParams)
extern "C" __global__ void __launch_bounds__(GroupedThreads, 4) groupedlowrank_forward_t16_bf16(const GroupedForwardParams p) {
    grouped_forward<bf16>(p);
}
extern "C" __global__ void __launch_bounds__(GroupedThreads, 4) groupedlowrank_forward_t16_f16(const GroupedForwardParams p) {
    grouped_forward<f16>(p);
}
