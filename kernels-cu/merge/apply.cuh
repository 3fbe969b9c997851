// merge_apply: see merge.cu; where no matrix has more than one slice of factors, strip.cuh.
#pragma once
#include "strip.cuh"

template <typename T> __device__ __forceinline__ void apply_tile(const MergeMatrix& m, int tile, uint4* shared) {
    uint4* pieces = shared + DeltaFactorQuads;
    auto own = [&] { return tile_of<T>(m, hidden(tile)); };
    float delta[DeltaPieces][DeltaTile<T>::N];
    delta_tile<T>(m.factors, own, shared, pieces, delta);
    add_delta<T>(own, delta, 0, pieces);
}

__device__ __forceinline__ void apply_tiles(const MergeTable& table) {
    const MergeMatrix& m = matrix_of(table, blockIdx.x);
    uint4* shared = dynamic_shared<uint4>();
    if (m.type == BF16) apply_tile<bf16>(m, blockIdx.x, shared);
    else if (m.type == F16) apply_tile<f16>(m, blockIdx.x, shared);
    else apply_tile<float>(m, blockIdx.x, shared);
}
