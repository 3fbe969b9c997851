// merge_apply_slice: merge_apply where no matrix has more than one slice of factors. A block goes down a strip, 1 KB wide: a warp keeps
// the right factor of its 128 bytes in registers, so that a step of 32 rows asks L2 for 3 KB of the left one beside its 32 KB of W,
// where a tile of merge_apply asks for 24, and neighbouring warps read and write neighbouring bytes. The next step's copies are on
// their way while one is computed.
#pragma once
#include "tile.cuh"

// Rows of a block: enough for the right factor to be worth its loads, few enough for a single matrix to fill a GPU.
constexpr int StripRows = 128, StripBytes = 1024;
constexpr int StepRows = 32, StepStages = 2, StepLeftQuads = StepRows * DeltaItemQuads;
constexpr int StepQuads = StepRows * StripBytes / 16 + StepLeftQuads;
constexpr int HalfPieces = DeltaPieces / 2;
static_assert(StepRows * StripBytes == 16 * DeltaPieces * DeltaThreads && StepLeftQuads <= DeltaThreads, "a thread has its share");
static_assert(StripRows == DeltaRows, "matrices' blocks are counted by it");

// A step's part of W, and a thread's pieces of it: as in DeltaTile, with all warps side by side.
template <typename T> struct StripTile : DeltaTile<T> {
    static constexpr int Columns = StripBytes / sizeof(typename DeltaTile<T>::U);

    __device__ __forceinline__ StripTile(const MergeMatrix& m, int row, int left)
        : DeltaTile<T>(
              (typename DeltaTile<T>::U*)m.w + row * m.stride + left, m.stride, m.rows - row, m.columns - left, 1, 0, m.vectors) {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        this->rows = min(StepRows, m.rows - row);
        this->columns = min(Columns, m.columns - left);
        this->first = lane % 4 * 4;
        this->column = warp * (8 * this->N) + lane / 4 * this->N;
        this->fast = m.vectors && this->columns % this->N == 0;
    }
};

// Δ of 16 rows, the bits of delta_multiply: its products in its order.
template <typename T>
__device__ __forceinline__ void strip_multiply(
    const uint4* left, const uint32_t (&right)[DeltaTile<T>::N / 2][3][4], float (&delta)[HalfPieces][DeltaTile<T>::N]) {
    constexpr int Parts[6][2] = {{2, 0}, {0, 2}, {1, 1}, {1, 0}, {0, 1}, {0, 0}};
    uint4 l[3];
#pragma unroll
    for (int p = 0; p < 3; p++) l[p] = left[32 * p];
#pragma unroll
    for (int j = 0; j < DeltaTile<T>::N / 2; j++) {
        float even[4] = {}, odd[4] = {};
#pragma unroll
        for (int k = 0; k < 6; k++) {
            mma<bf16>(even, right[j][Parts[k][1]], l[Parts[k][0]].x, l[Parts[k][0]].y);
            mma<bf16>(odd, right[j][Parts[k][1]], l[Parts[k][0]].z, l[Parts[k][0]].w);
        }
        // The sum with 0, which the other passes begin with, makes +0 of −0.
#pragma unroll
        for (int c = 0; c < 4; c++) {
            delta[c % 2 * 2][2 * j + c / 2] = __fadd_rn(0, even[c]);
            delta[c % 2 * 2 + 1][2 * j + c / 2] = __fadd_rn(0, odd[c]);
        }
    }
}

template <typename T> __device__ __forceinline__ void apply_strip(const MergeMatrix& m, int strip, uint4* shared) {
    constexpr int N = DeltaTile<T>::N;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int left = strip % m.tiles_across * StripTile<T>::Columns, begin = strip / m.tiles_across * StripRows;
    const int steps = (min(StripRows, m.rows - begin) + StepRows - 1) / StepRows;
    const bool adds = m.factors.slices > 0;

    // W's pieces, behind them the left factor's units.
    auto stage_of = [&](int step) { return shared + step % StepStages * StepQuads; };
    auto fetch = [&](int step) {
        if (step < steps) {
            uint4* stage = stage_of(step);
            const int row = begin + step * StepRows;
            if (adds && threadIdx.x < StepLeftQuads)
                copy_async_16(
                    stage + StepQuads - StepLeftQuads + threadIdx.x, m.factors.left + row * DeltaItemQuads + threadIdx.x, true);
            StripTile<T>(m, row, left).fetch(stage);
        }
        commit_copies();
    };
#pragma unroll
    for (int s = 0; s < StepStages - 1; s++) fetch(s);

    uint32_t right[N / 2][3][4] = {};
    const int column = left + warp * (8 * N);
    if (adds && column < m.columns)
#pragma unroll
        for (int j = 0; j < N / 2; j++)
#pragma unroll
            for (int p = 0; p < 3; p++) {
                const uint4 v = __ldg(m.factors.right + column * DeltaItemQuads + j * DeltaUnitQuads + 32 * p + lane);
                right[j][p][0] = v.x, right[j][p][1] = v.y, right[j][p][2] = v.z, right[j][p][3] = v.w;
            }

#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        wait_for_groups<StepStages - 2>();
        // All are done with the stage before, which the next step takes.
        __syncthreads();
        fetch(step + StepStages - 1);
        uint4* stage = stage_of(step);
        const StripTile<T> t(m, begin + step * StepRows, left);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float delta[HalfPieces][N] = {};
            if (adds) strip_multiply<T>(stage + StepQuads - StepLeftQuads + half * DeltaUnitQuads + lane, right, delta);
            add_delta<T>([&] { return t; }, delta, half * HalfPieces, stage);
        }
    }
}
