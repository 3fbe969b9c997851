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

template <bool OneSlice> __device__ __forceinline__ void apply(const MergeTable& table) {
    uint4* shared = dynamic_shared<uint4>();
    const int tile = blockIdx.x;
    const MergeMatrix& m = matrix_of(table, tile);
    auto run = [&](auto type) {
        using T = decltype(type);
        if constexpr (OneSlice) apply_strip<T>(m, tile - m.first_tile, shared);
        else apply_tile<T>(m, tile, shared);
    };
    if (m.type == BF16) run(bf16());
    else if (m.type == F16) run(f16());
    else run(float());
}
