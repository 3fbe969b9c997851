// merge_apply's blocks, which walk over the tiles: while one is worked on, the next one's factors and W are on their way, and the
// search for its matrix is done. Factors have two places in turn. W has one: a thread's slots are its own, so that they can be
// filled again as soon as it has read them, without a barrier; the next W has the next tile's wait for factors and its Δ to arrive.
#pragma once
#include "tile.cuh"

constexpr int ApplySliceQuads = (DeltaRows + DeltaTile<bf16>::Columns) * DeltaItemQuads;
constexpr int ApplyFactorQuads = 2 * ApplySliceQuads;
static_assert((ApplyFactorQuads + DeltaTileQuads) * 16 == 80 << 10, "DeltaFactors.WalkSharedBytes; two blocks have room in 164 KB");

// Begins to copy a slice of a tile's factors, or nothing where it has none or m is null; one group of copies either way. The dtype
// is looked at while running: neighbouring tiles may differ in it.
__device__ __forceinline__ void fetch_slice(const MergeMatrix* m, int tile, int slice, uint4* to) {
    if (m && slice < m->factors.slices) {
        const int in_matrix = tile - m->first_tile, down = in_matrix / m->tiles_across, across = in_matrix - down * m->tiles_across;
        const int columns = m->type == F32 ? DeltaTile<float>::Columns : DeltaTile<bf16>::Columns;
        delta_fetch(m->factors, down * DeltaRows, across * columns, columns, slice, to);
    }
    commit_copies();
}

// The same for the thread's pieces of W.
__device__ __forceinline__ void fetch_pieces(const MergeMatrix* m, int tile, uint4* pieces) {
    if (m && m->type == F32) tile_of<float>(*m, hidden(tile)).fetch(pieces);
    else if (m) tile_of<bf16>(*m, hidden(tile)).fetch(pieces);  // f16 lies as bf16 does
    commit_copies();
}

// Merges a tile whose first slice is on its way to place `turn`, and behind it W to the slots, and leaves the next tile so; its
// matrix is null where there is none. Δ comes about as in delta_tile.
template <typename T>
__device__ __forceinline__ void apply_tile(
    const MergeMatrix& m, int tile, const MergeMatrix* next_matrix, int next, uint4* shared, int& turn) {
    using D = DeltaTile<T>;
    using W = Word<T>;
    constexpr int H = W::H;
    uint4* pieces = shared + ApplyFactorQuads;
    float delta[DeltaPieces][D::N];
#pragma unroll
    for (int i = 0; i < DeltaPieces; i++)
#pragma unroll
        for (int n = 0; n < D::N; n++) delta[i][n] = 0;
    int slice = 0;
#pragma unroll 1
    do {
        // For the first slice W need not have arrived; the others were asked for after it.
        if (slice == 0) wait_for_groups<1>();
        else wait_for_copies();
        // This slice is there for all, and all are done with the one before, in whose place the next one goes.
        __syncthreads();
        const uint4* factors = shared + turn * ApplySliceQuads;
        turn ^= 1;
        slice++;
        const bool last = slice >= m.factors.slices;
        fetch_slice(last ? next_matrix : &m, last ? next : tile, last ? 0 : slice, shared + turn * ApplySliceQuads);
        if (slice <= m.factors.slices) delta_multiply<T>(factors, delta);
    } while (slice < m.factors.slices);

    // Behind W only the next tile's slice was asked for.
    wait_for_groups<1>();
    const uint4* own = D::slots(pieces);
    Words results[DeltaPieces];
#pragma unroll
    for (int i = 0; i < DeltaPieces; i++) {
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
    // The stores need all that the slots held: behind them the slots are free.
    store_tile(tile_of<T>(m, hidden(tile)), results, pieces);
    asm volatile("" ::: "memory");
    fetch_pieces(next_matrix, next, pieces);
}

// The block's tiles are blockIdx.x, blockIdx.x + gridDim.x, …; which block has which shows in no result.
__device__ __forceinline__ void apply_tiles(const MergeTable& table, int tiles) {
    __shared__ FoundMatrix found[2];
    uint4* shared = dynamic_shared<uint4>();
    int place = 0, turn = 0, tile = blockIdx.x;
    find_matrix(table, table.matrices, tile, found[0]);
    fetch_slice(&found[0].matrix, tile, 0, shared);
    fetch_pieces(&found[0].matrix, tile, shared + ApplyFactorQuads);
#pragma unroll 1
    while (tile < tiles) {
        const MergeMatrix& m = found[place].matrix;
        const int next = tile + gridDim.x;
        const MergeMatrix* next_matrix = nullptr;
        if (next < tiles) {
            // The search's barrier is behind everybody's work on the matrix before this one, whose place it takes.
            if (next - m.first_tile >= (m.rows + DeltaRows - 1) / DeltaRows * m.tiles_across) {
                find_matrix(table, found[place].entry, next, found[place ^ 1]);
                place ^= 1;
            }
            next_matrix = &found[place].matrix;
        }
        if (m.type == BF16) apply_tile<bf16>(m, tile, next_matrix, next, shared, turn);
        else if (m.type == F16) apply_tile<f16>(m, tile, next_matrix, next, shared, turn);
        else apply_tile<float>(m, tile, next_matrix, next, shared, turn);
        tile = next;
    }
}
