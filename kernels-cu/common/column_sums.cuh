// Adds the partial sums of column sums, in index order.
#pragma once
#include "types.cuh"

struct SumPartialsParams {
    const float* partial;  // [chunks, columns]
    void* out;             // [columns], added to
    int chunks;
    int columns;
    int out_type;
};

#define ENGINE_SUM_PARTIALS(name)                                                                     \
    ENGINE_PARAMS(name, SumPartialsParams)                                                            \
    extern "C" __global__ void __launch_bounds__(256) name(const SumPartialsParams p) {               \
        int c = blockIdx.x * blockDim.x + threadIdx.x;                                                \
        if (c >= p.columns) return;                                                                   \
        float sum = 0;                                                                                \
        for (int k = 0; k < p.chunks; k++) sum += p.partial[(long long)k * p.columns + c];            \
        store_any(p.out, c, p.out_type, load_any(p.out, c, p.out_type) + sum);                        \
    }
