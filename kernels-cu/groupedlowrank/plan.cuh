// groupedlowrank_plan — sorts the rows of a batch by adapter and cuts the segments into tiles
// Shapes: indices i32 [batch], values outside 0 … 255 mean no adapter; plan as described at RowPlan, with room for
//         min(256, batch) segments and batch·tokens/tile + as many tiles
// Algorithm: one block; thread a counts the rows of adapter a, three prefix sums place its rows, segment and tiles
// Numerics: the order is stable and depends on the indices alone
#pragma once
#include "params.cuh"

struct PlanParams {
    const int* indices;
    int* plan;
    int batch;
    int tokens;
    int tile;
    int most_segments;
    int most_tiles;
};

// The sum of x over the threads before this one; all gets the sum over all. 256 threads.
__device__ __forceinline__ int prefix_sum(int x, int* shared, int& all) {
    int t = threadIdx.x;
    __syncthreads();
    shared[t] = x;
    __syncthreads();
#pragma unroll
    for (int d = 1; d < MostAdapters; d *= 2) {
        int y = t >= d ? shared[t - d] : 0;
        __syncthreads();
        shared[t] += y;
        __syncthreads();
    }
    all = shared[MostAdapters - 1];
    return shared[t] - x;
}

ENGINE_PARAMS(groupedlowrank_plan, PlanParams)
extern "C" __global__ void __launch_bounds__(MostAdapters) groupedlowrank_plan(const PlanParams p) {
    __shared__ int shared[MostAdapters];
    int adapter = threadIdx.x, count = 0;
#pragma unroll 8
    for (int i = 0; i < p.batch; i++) count += __ldg(p.indices + i) == adapter;
    int tiles = (int)(((long long)count * p.tokens + p.tile - 1) / p.tile);
    int all, segments, all_tiles;
    int first = prefix_sum(count, shared, all);
    int segment = prefix_sum(count > 0, shared, segments);
    int tile = prefix_sum(tiles, shared, all_tiles);
    if (threadIdx.x == 0) *reinterpret_cast<int4*>(p.plan) = make_int4(all_tiles, segments, 0, 0);
    int* order = p.plan + PlanHead;
    int4* list = reinterpret_cast<int4*>(order + (p.batch + 3) / 4 * 4);
    for (int i = all_tiles + threadIdx.x; i < p.most_tiles; i += MostAdapters) list[p.most_segments + i] = make_int4(0, 0, 0, 0);
    if (count == 0) return;
    int begin = first * p.tokens, end = begin + count * p.tokens;
    list[segment] = make_int4(adapter, begin, end, 0);
    for (int i = 0; i < tiles; i++) {
        int at = begin + i * p.tile;
        list[p.most_segments + tile + i] = make_int4(adapter, at, min(p.tile, end - at), 0);
    }
    for (int i = 0; i < p.batch; i++)
        if (__ldg(p.indices + i) == adapter) order[first++] = i;
}
