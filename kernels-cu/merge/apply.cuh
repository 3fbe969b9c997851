// merge_apply, and merge_apply_slice, which is it where no matrix has more than one slice of factors: Δ is then the one slice's sums
// and need not be held while others are added. A thread forms it for half its pieces at a time, so that registers are left for a
// third block.
#pragma once
#include "tile.cuh"

constexpr int HalfPieces = DeltaPieces / 2;

// W + Δ of the thread's pieces from `first` on, to memory.
template <typename T, int Count>
__device__ __forceinline__ void add_delta(
    const MergeMatrix& m, int tile, const float (&delta)[Count][DeltaTile<T>::N], int first, uint4* pieces) {
    using W = Word<T>;
    constexpr int H = W::H;
    const uint4* own = DeltaTile<T>::slots(pieces) + first * DeltaThreads;
    Words results[Count];
#pragma unroll
    for (int i = 0; i < Count; i++) {
        const Words words = words_of(own[i * DeltaThreads]);
#pragma unroll
        for (int c = 0; c < 4; c++) {
            float x[H];
            W::split(words.w[c], x);
#pragma unroll
            for (int h = 0; h < H; h++) x[h] = __fadd_rn(x[h], delta[i][c * H + h]);
            results[i].w[c] = W::join(x);
        }
    }
    store_pieces(tile_of<T>(m, hidden(tile)), results, first, pieces);
}

template <typename T> __device__ __forceinline__ void apply_tile(const MergeMatrix& m, int tile, uint4* shared) {
    uint4* pieces = shared + DeltaFactorQuads;
    float delta[DeltaPieces][DeltaTile<T>::N];
    delta_tile<T>(m.factors, [&] { return tile_of<T>(m, hidden(tile)); }, shared, pieces, delta);
    add_delta<T>(m, tile, delta, 0, pieces);
}

// Δ of the thread's pieces from HalfPieces·half on, as delta_multiply would form it.
template <typename T>
__device__ __forceinline__ void multiply_half(const uint4* factors, int half, float (&delta)[HalfPieces][DeltaTile<T>::N]) {
    constexpr int Parts[6][2] = {{2, 0}, {0, 2}, {1, 1}, {1, 0}, {0, 1}, {0, 0}};
    const int thread = hidden(threadIdx.x), warp = thread / 32;
    const uint4* left = factors + thread % 32 + (warp / 2 * 2 + half) * DeltaUnitQuads;
    const uint4* right = factors + thread % 32 + DeltaRows * DeltaItemQuads + warp % 2 * (DeltaTile<T>::N / 2 * DeltaUnitQuads);
    uint4 l[3];
#pragma unroll
    for (int p = 0; p < 3; p++) l[p] = left[p * 32];
#pragma unroll
    for (int j = 0; j < DeltaTile<T>::N / 2; j++) {
        uint32_t r[3][4];
#pragma unroll
        for (int p = 0; p < 3; p++) {
            const uint4 v = right[j * DeltaUnitQuads + 32 * p];
            r[p][0] = v.x, r[p][1] = v.y, r[p][2] = v.z, r[p][3] = v.w;
        }
        float even[4] = {}, odd[4] = {};
#pragma unroll
        for (int k = 0; k < 6; k++) {
            mma<bf16>(even, r[Parts[k][1]], l[Parts[k][0]].x, l[Parts[k][0]].y);
            mma<bf16>(odd, r[Parts[k][1]], l[Parts[k][0]].z, l[Parts[k][0]].w);
        }
        // The sum with 0, which the other passes begin with, makes +0 of −0.
#pragma unroll
        for (int c = 0; c < 4; c++) {
            delta[c % 2 * 2][2 * j + c / 2] = __fadd_rn(0, even[c]);
            delta[c % 2 * 2 + 1][2 * j + c / 2] = __fadd_rn(0, odd[c]);
        }
    }
}

template <typename T> __device__ __forceinline__ void apply_tile_of_slice(const MergeMatrix& m, int tile, uint4* shared) {
    using D = DeltaTile<T>;
    uint4* pieces = shared + DeltaFactorQuads;
    {
        const DeltaTile<T> t = tile_of<T>(m, hidden(tile));
        if (m.factors.slices > 0) delta_fetch(m.factors, t.row, t.left, D::Columns, 0, shared);
        commit_copies();
        t.fetch(pieces);
        commit_copies();
    }
    // W need not have arrived for the first half's Δ.
    wait_for_groups<1>();
    __syncthreads();
#pragma unroll 1
    for (int half = 0; half < 2; half++) {
        float delta[HalfPieces][D::N] = {};
        if (m.factors.slices > 0) multiply_half<T>(shared, half, delta);
        wait_for_copies();
        add_delta<T>(m, tile, delta, half * HalfPieces, pieces);
    }
}

template <bool OneSlice> __device__ __forceinline__ void apply(const MergeTable& table) {
    uint4* shared = dynamic_shared<uint4>();
    const int tile = blockIdx.x;
    const MergeMatrix& m = matrix_of(table, tile);
    auto run = [&](auto type) {
        using T = decltype(type);
        if constexpr (OneSlice) apply_tile_of_slice<T>(m, tile, shared);
        else apply_tile<T>(m, tile, shared);
    };
    if (m.type == BF16) run(bf16());
    else if (m.type == F16) run(f16());
    else run(float());
}
