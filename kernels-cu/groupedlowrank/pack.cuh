// groupedlowrank_pack — the 16-bit copies of a linear's adapters: each A and B rounded from f32, rows padded with zeros
// Shapes: f32 masters without gaps; copies with the table's strides
// Bytes: 6 an element.  Bound: memory; runs once for a set in use, once a forward pass while it is trained
// Algorithm: block (x, a, 0 or 1) takes every gridDim.x-th piece of adapter a's A or B
#pragma once
#include "params.cuh"

struct PackMaster {
    const float* a;
    const float* b;
};

struct PackParams {
    const GroupedAdapter* table;
    const PackMaster* masters;
    int inputs;
    int outputs;
};

template <typename T> __device__ __forceinline__ void pack_body(const PackParams& p) {
    GroupedAdapter adapter = p.table[blockIdx.y];
    PackMaster master = p.masters[blockIdx.y];
    bool is_a = blockIdx.z == 0;
    const float* from = is_a ? master.a : master.b;
    T* to = (T*)(is_a ? adapter.a : adapter.b);
    int columns = is_a ? p.inputs : adapter.rank, stride = is_a ? adapter.a_stride : adapter.b_stride;
    long long count = adapter.rank == 0 ? 0 : (long long)(is_a ? adapter.rank : p.outputs) * stride;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (long long)gridDim.x * blockDim.x) {
        long long row = i / stride;
        int column = (int)(i - row * stride);
        to[i] = from_float<T>(column < columns ? from[row * columns + column] : 0.0f);
    }
}

ENGINE_PARAMS(groupedlowrank_pack, PackParams)
extern "C" __global__ void __launch_bounds__(256) groupedlowrank_pack_bf16(const PackParams p) { pack_body<bf16>(p); }
extern "C" __global__ void __launch_bounds__(256) groupedlowrank_pack_f16(const PackParams p) { pack_body<f16>(p); }
