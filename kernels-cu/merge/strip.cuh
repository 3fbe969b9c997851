// merge_apply_slice: merge_apply where no matrix has more than one slice of factors. As many blocks as the GPU holds at once take
// strips, 128 rows of 1 KB, in turn: a warp keeps the right factor of its 128 bytes in registers, so that a step of 16 rows asks L2
// for 1.5 KB of the left one beside its 16 KB of W, where a tile of merge_apply asks for 12, and neighbouring warps read and write
// neighbouring bytes. Copies run two steps ahead, from one strip on into the next: a pass without products whose blocks began anew
// for each strip came to 92% of copy, and to 82% where they looked their matrix up first. The next strip's matrix is looked up, and
// its right factor copied to shared memory, during this one.
// How the passes over W mix is half of the speed (an in-place pass without products, 32 × 4096², H200, 2026-11-27): warps that go
// their own ways come to 83 to 88% of copy, blocks whose warps meet before each step to 92 to 94%, with 48 to 64 KB on
// their way in a multiprocessor; twice as much is slower.
#pragma once
#include "tile.cuh"

// Steps of a strip: enough for the right factor to be worth its copy, few enough for a single matrix to fill a GPU.
constexpr int StripSteps = 8, StripBytes = 1024;
constexpr int StepRows = 16, StepStages = 3, StepPieces = DeltaPieces / 2;
constexpr int StepQuads = StepRows * StripBytes / 16 + DeltaUnitQuads;
constexpr int RightQuads = StripBytes / sizeof(bf16) * DeltaItemQuads;
static_assert(StepRows * StripBytes == 16 * StepPieces * DeltaThreads && DeltaUnitQuads <= DeltaThreads, "a thread has its share");
static_assert(StripSteps * StepRows == DeltaRows, "matrices' tiles are counted by it");

constexpr int NoStrip = 0x7fffffff;  // begins behind every strip

// When in a strip the next one's matrix is looked up and its right factor is asked for: each is there StepStages − 1 steps later, the
// first for the second, both before copies cross over.
constexpr int LookUpStep = 1, RightStep = LookUpStep + StepStages - 1;
static_assert(RightStep + StepStages - 1 <= StripSteps && RightStep <= StripSteps - StepStages + 1, "the next strip is known in time");

// A step's part of W, and a thread's pieces of it: as in DeltaTile, with all warps side by side.
template <typename T> struct StepTile : DeltaTile<T> {
    using U = typename DeltaTile<T>::U;
    static constexpr int N = DeltaTile<T>::N, Columns = StripBytes / sizeof(U);

    __device__ __forceinline__ StepTile(const MergeMatrix& m, int row, int left)
        : DeltaTile<T>((U*)m.w + row * m.stride + left, m.stride, m.rows - row, m.columns - left, 1, 0, m.vectors) {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        this->rows = min(StepRows, m.rows - row);
        this->columns = min(Columns, m.columns - left);
        this->first = lane % 4 * 4;
        this->column = warp * (8 * N) + lane / 4 * N;
        this->fast = m.vectors && this->columns % N == 0;
    }
};

// Where a strip is in its matrix.
struct StripPlace {
    int row;
    int across;

    __device__ __forceinline__ StripPlace(const MergeMatrix& m, int strip) {
        const int own = strip - m.first_tile;
        row = own / m.tiles_across * DeltaRows;
        across = own % m.tiles_across;
    }
};

// Begins to copy a step's W to its stage, behind it the left factor's unit. Steps below the matrix have nothing.
template <typename T> __device__ __forceinline__ void fetch_step(const MergeMatrix& m, int strip, int step, uint4* stage) {
    const StripPlace place(m, strip);
    const int row = place.row + step * StepRows;
    if (row >= m.rows) return;
    StepTile<T>(m, row, place.across * StepTile<T>::Columns).template fetch<StepPieces>(stage);
    if (m.factors.slices > 0 && threadIdx.x < DeltaUnitQuads)
        copy_async_16(stage + StepQuads - DeltaUnitQuads + threadIdx.x, m.factors.left + row * DeltaItemQuads + threadIdx.x, true);
}

// Begins to copy what each thread needs of a strip's right factor to places of its own.
template <typename T> __device__ __forceinline__ void fetch_right(const MergeMatrix& m, int strip, uint4* right) {
    constexpr int N = DeltaTile<T>::N;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int column = StripPlace(m, strip).across * StepTile<T>::Columns + warp * (8 * N);
    if (m.factors.slices == 0 || column >= m.columns) return;
#pragma unroll
    for (int i = 0; i < N / 2 * 3; i++)
        copy_async_16(right + i * DeltaThreads + threadIdx.x, m.factors.right + column * DeltaItemQuads + 32 * i + lane, true);
}

// Δ of a step, added to 0 as the other passes do, which makes +0 of −0.
template <typename T>
__device__ __forceinline__ void strip_multiply(
    const uint4* left, const uint32_t (&right)[DeltaTile<T>::N / 2][3][4], float (&delta)[StepPieces][DeltaTile<T>::N]) {
    uint4 l[1][3];
#pragma unroll
    for (int p = 0; p < 3; p++) l[0][p] = left[32 * p];
#pragma unroll
    for (int j = 0; j < DeltaTile<T>::N / 2; j++) delta_multiply_unit(l, right[j], j, delta);
}

// The strips of a block, one after another; shared memory holds two matrices' entries, the right factor, the ring of steps.
struct StripWalk {
    static constexpr int EntryQuads = sizeof(MergeMatrix) / 16;

    const MergeTable& table;
    uint4 *entries, *right, *ring;
    int strips;
    int strip, turn = 0;       // at work, and its number among the block's
    int stage = 0;             // of the step at work
    int index = 0, ahead = 0;  // warp 0: the number of the strip's matrix or the next one's, and where one behind it begins

    __device__ __forceinline__ StripWalk(const MergeTable& table, int strips, uint4* shared)
        : table(table), entries(shared), right(shared + 2 * EntryQuads), ring(right + RightQuads), strips(strips), strip(blockIdx.x) {}

    __device__ __forceinline__ const MergeMatrix& matrix(int turn) const {
        return *(const MergeMatrix*)(entries + (table.matrices ? turn % 2 * EntryQuads : 0));
    }

    __device__ __forceinline__ void look_up_first() {
        if (table.matrices) {
            const MergeMatrix* own = entry_of(table.matrices, table.count, strip);
            index = (int)(own - table.matrices);
            if (threadIdx.x < EntryQuads) entries[threadIdx.x] = ((const uint4*)own)[threadIdx.x];
        } else if (threadIdx.x == 0) {
            *(MergeMatrix*)entries = table.only;
        }
        __syncthreads();
    }

    __device__ __forceinline__ int next() const { return strip + (int)gridDim.x; }

    __device__ __forceinline__ bool seeks() const { return table.matrices && threadIdx.x < 32 && next() < strips; }

    // Where the matrices behind this strip's begin: what look_up waits for a step later.
    __device__ __forceinline__ void probe() {
        const long long i = (long long)index + 1 + threadIdx.x;
        if (seeks()) ahead = i < table.count ? table.matrices[i].first_tile : NoStrip;
    }

    // Begins to copy the entry of the next strip's matrix.
    __device__ __forceinline__ void look_up() {
        if (!seeks()) return;
        for (;;) {
            const int found = __popc(__ballot_sync(0xffffffffu, ahead <= next()));
            index += found;
            if (found < 32) break;
            probe();
        }
        if (threadIdx.x < EntryQuads)
            copy_async_16(
                entries + (turn + 1) % 2 * EntryQuads + threadIdx.x, (const uint4*)(table.matrices + index) + threadIdx.x, true);
    }

    __device__ __forceinline__ void ask_for_right(int strip, int turn) {
        if (strip >= strips) return;
        const MergeMatrix& m = matrix(turn);
        if (m.type == F32) fetch_right<float>(m, strip, right);
        else fetch_right<bf16>(m, strip, right);
    }

    // Asks for the step that is StepStages − 1 behind this one, in the next strip if need be.
    __device__ __forceinline__ void fetch(int step) {
        const int copied = step + StepStages - 1;
        const bool crosses = copied >= StripSteps;
        const int own = crosses ? next() : strip;
        if (own < strips) {
            const MergeMatrix& m = matrix(crosses ? turn + 1 : turn);
            uint4* to = ring + (stage == 0 ? StepStages - 1 : stage - 1) * StepQuads;
            if (m.type == F32) fetch_step<float>(m, own, copied % StripSteps, to);
            else fetch_step<bf16>(m, own, copied % StripSteps, to);
        }
        commit_copies();
    }

    // What comes before a step's work.
    __device__ __forceinline__ void begin(int step) {
        wait_for_groups<StepStages - 2>();
        // All are done with the stage before, which the step fetched now takes, and see what the others copied.
        __syncthreads();
        if (step == LookUpStep) look_up();
        if (step == RightStep) ask_for_right(next(), turn + 1);
        fetch(step);
        if (step == LookUpStep - 1) probe();
    }

    template <typename T> __device__ __forceinline__ void apply() {
        constexpr int N = DeltaTile<T>::N;
        uint32_t own[N / 2][3][4] = {};
#pragma unroll 1
        for (int step = 0; step < StripSteps; step++) {
            begin(step);
            const MergeMatrix& m = matrix(turn);
            const StripPlace place(m, strip);
            const int left = place.across * StepTile<T>::Columns, row = place.row + step * StepRows;
            const bool adds = m.factors.slices > 0;
            // Beside the matrix there is none: its zeros come to nothing.
            if (step == 0 && adds && left + threadIdx.x / 32 * (8 * N) < m.columns)
#pragma unroll
                for (int i = 0; i < N / 2 * 3; i++) {
                    const uint4 v = right[i * DeltaThreads + threadIdx.x];
                    own[i / 3][i % 3][0] = v.x, own[i / 3][i % 3][1] = v.y, own[i / 3][i % 3][2] = v.z, own[i / 3][i % 3][3] = v.w;
                }
            if (row < m.rows) {
                uint4* pieces = ring + stage * StepQuads;
                float delta[StepPieces][N] = {};
                if (adds) strip_multiply<T>(pieces + StepQuads - DeltaUnitQuads + threadIdx.x % 32, own, delta);
                add_delta<T>([&] { return StepTile<T>(m, row, left); }, delta, 0, pieces);
            }
            stage = stage + 1 == StepStages ? 0 : stage + 1;
        }
    }
};

__device__ __forceinline__ void apply_strips(const MergeTable& table, int strips, uint4* shared) {
    StripWalk walk(table, strips, shared);
    walk.look_up_first();
    walk.ask_for_right(walk.strip, 0);
#pragma unroll 1
    for (int step = 1 - StepStages; step < 0; step++) {
        walk.stage = step + StepStages;
        walk.fetch(step);
    }
    walk.stage = 0;
    for (; walk.strip < strips; walk.strip = walk.next(), walk.turn++) {
        const int type = walk.matrix(walk.turn).type;
        if (type == BF16) walk.apply<bf16>();
        else if (type == F16) walk.apply<f16>();
        else walk.apply<float>();
    }
    wait_for_copies();
}
