// merge_apply: blocks that walk over the tiles, with the next tile on its way while the current one is summed. Cheaper than a
// second buffer for W: a thread's slots are its own, so they can be filled again as soon as it has read them, without a
// barrier, and W has until the next sum to arrive, all of the time in which the next Δ is formed. Shared memory stays what it
// is for a block a tile.
#pragma once
#include "tile.cuh"

// Where one of the two slices of factors lies, whatever the tile's dtype: neighbouring tiles may differ in it.
__device__ __forceinline__ float4* slice_of(float4* shared, int buffer) { return shared + buffer * (DeltaFactorQuads / 2); }

// Begins to copy the factors of a tile's ranks from `begin` on, or nothing where m is null; one group of copies either way.
// They lie as delta_fetch places them, but the dtype is looked at while running, and a thread's addresses go up in steps: with
// 1024 multiply-adds a thread at rank 16 their arithmetic would count.
__device__ __forceinline__ void fetch_factors(const MergeMatrix* m, int tile, int begin, float4* to) {
    static_assert(DeltaSlice * (DeltaRows / 4) == DeltaThreads, "a piece of the left factor for each thread");
    if (m) {
        const DeltaFactors& f = m->factors;
        const int thread = hidden(threadIdx.x), shift = m->type == F32 ? 5 : 6, ranks = min(DeltaSlice, f.rank - begin);
        const int in_table = tile - m->first_tile, down = in_table / m->tiles_across, across = in_table - down * m->tiles_across;
        int k = thread / (DeltaRows / 4), quad = thread % (DeltaRows / 4);
        if (k < ranks) copy_async_16(to + thread, f.left + (begin + k) * f.left_stride + down * DeltaRows + 4 * quad, true);
        k = thread >> shift, quad = thread - (k << shift);
        const float* from = f.right + (begin + k) * f.right_stride + ((across << shift) + quad) * 4;
        const long long step = f.right_stride * (DeltaThreads >> shift);
        to += DeltaThreads + (k << shift) + (shift == 6 ? (quad & 1) * 32 + (quad >> 1) : quad);
#pragma unroll 1
        for (; k < ranks; k += DeltaThreads >> shift, from += step, to += DeltaThreads) copy_async_16(to, from, true);
    }
    commit_copies();
}

// The same for the thread's pieces of W.
__device__ __forceinline__ void fetch_pieces(const MergeMatrix* m, int tile, uint4* pieces) {
    if (m && m->type == F32) tile_of<float>(*m, hidden(tile)).fetch(pieces);
    else if (m) tile_of<bf16>(*m, hidden(tile)).fetch(pieces);  // f16 lies as bf16 does
    commit_copies();
}

// Merges a tile whose first slice of factors is on its way to `buffer`, and after it W to the slots, and leaves the next tile
// so; its matrix is null where there is none. The chain of multiply-adds is that of delta_tile.
template <typename T>
__device__ __forceinline__ void apply_tile(
    const MergeMatrix& m, int tile, const MergeMatrix* next_matrix, int next, float4* shared, uint4* pieces, int& buffer) {
    using D = DeltaTile<T>;
    using W = Word<T>;
    constexpr int H = W::H;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, rank = m.factors.rank;
    float delta[DeltaWarpRows][D::N];
#pragma unroll
    for (int i = 0; i < DeltaWarpRows; i++)
#pragma unroll
        for (int j = 0; j < D::N; j++) delta[i][j] = 0;
    int begin = 0;
    do {
        // For the first slice W need not have arrived; the others were asked for after it.
        if (begin == 0) wait_for_groups<1>();
        else wait_for_copies();
        // This slice is there for all, and all are done with the one before, in whose place the next one goes.
        __syncthreads();
        const float4* left = slice_of(shared, buffer) + 2 * warp;
        const float4* right = slice_of(shared, buffer) + DeltaSlice * (DeltaRows / 4) + lane;
        const int ranks = min(DeltaSlice, rank - begin);
        begin += DeltaSlice;
        buffer ^= 1;
        const bool last = begin >= rank;
        fetch_factors(last ? next_matrix : &m, last ? next : tile, last ? 0 : begin, slice_of(shared, buffer));
#pragma unroll 2
        for (int k = 0; k < ranks; k++) {
            float4 l0 = left[k * (DeltaRows / 4)], l1 = left[k * (DeltaRows / 4) + 1];
            float l[8] = {l0.x, l0.y, l0.z, l0.w, l1.x, l1.y, l1.z, l1.w}, r[D::N];
#pragma unroll
            for (int q = 0; q < D::N / 4; q++) {
                float4 v = right[k * D::RightQuads + 32 * q];
                r[4 * q] = v.x, r[4 * q + 1] = v.y, r[4 * q + 2] = v.z, r[4 * q + 3] = v.w;
            }
#pragma unroll
            for (int i = 0; i < DeltaWarpRows; i++)
#pragma unroll
                for (int j = 0; j < D::N; j++) delta[i][j] = fmaf(l[i], r[j], delta[i][j]);
        }
    } while (begin < rank);

    // After W only the next tile's factors were asked for.
    wait_for_groups<1>();
    Words results[DeltaWarpRows];
#pragma unroll
    for (int i = 0; i < DeltaWarpRows; i++) {
        const Words words = words_of(*D::slot(pieces, i));
#pragma unroll
        for (int c = 0; c < 4; c++) {
            float x[H];
            W::split(words.w[c], x);
#pragma unroll
            for (int h = 0; h < H; h++) x[h] = __fadd_rn(x[h], delta[i][c * H + h]);
            results[i].w[c] = W::join(x);
        }
    }
    // The stores need all that the slots held: behind them the slots are free.
    store_tile(tile_of<T>(m, hidden(tile)), results, pieces);
    asm volatile("" ::: "memory");
    fetch_pieces(next_matrix, next, pieces);
}

// The block's tiles are blockIdx.x, blockIdx.x + gridDim.x, …; which block has which shows in no result.
__device__ __forceinline__ void apply_tiles(const MergeTable& table, int tiles) {
    __shared__ MergeMatrix found[2];
    float4* shared = dynamic_shared<float4>();
    uint4* pieces = (uint4*)(shared + DeltaFactorQuads);
    int place = 0, buffer = 0;
    find_matrix(table, blockIdx.x, found[0]);
    fetch_factors(&found[0], blockIdx.x, 0, slice_of(shared, 0));
    fetch_pieces(&found[0], blockIdx.x, pieces);
    for (int tile = blockIdx.x; tile < tiles;) {
        const MergeMatrix& m = found[place];
        const int next = tile + gridDim.x;
        const MergeMatrix* next_matrix = nullptr;
        if (next < tiles) {
            // The search's barrier is behind everybody's work on the matrix before this one, whose place it takes.
            if (next - m.first_tile >= (m.rows + DeltaRows - 1) / DeltaRows * m.tiles_across)
                find_matrix(table, next, found[place ^= 1]);
            next_matrix = &found[place];
        }
        if (m.type == BF16) apply_tile<bf16>(m, tile, next_matrix, next, shared, pieces, buffer);
        else if (m.type == F16) apply_tile<f16>(m, tile, next_matrix, next, shared, pieces, buffer);
        else apply_tile<float>(m, tile, next_matrix, next, shared, pieces, buffer);
        tile = next;
    }
}
