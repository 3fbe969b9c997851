// lowrank_down — S = scale·X·Aᵀ for a stack of linears
// Shapes: X [M,K], A [width,K], S [M,width], as a rule in X's border, and as a copy without gaps; K, width and the strides of X and
//   A are multiples of 8, width at most 8·Tiles; a scale for each 8 columns of S
// Dtypes: bf16 | f16, f32 sums.  Arch: sm_80+
// Bytes: (M·K + width·(K + 2·M))·e.  Flops: 2·M·K·width.  Bound: memory, target >= 80% of copy bandwidth at 8192×1024
// Algorithm: that of lowrank_swiglu_down with X in place of y. A block owns 16·RowTiles rows, its 8 warps take 32 columns each in
//   turn; a lane's 8 neighbours of X and of A are its part of two products' fragments as they are, and only the warps' sums meet in
//   shared memory. A short row would be over before a loop of loads and products gets going: a ring of registers (DownDepth)
//   has 32 to 64 KB a block on their way before its first product, at 1024 columns and ranks up to 16 all of its rows. A comes from
//   L2 once a block, a step ahead up to rank 32. The more rows a block has, the less of A is read: wide ones go by 64 rows and one
//   block a multiprocessor, narrow ones by 32 and two; few rows, by 16, reach more multiprocessors.
// Numerics: deterministic; S is added up by warps, scaled, added in their order and rounded once, with the same bits for any
//   RowTiles and as lowrank_swiglu_down's.  Aliasing: S may lie between the rows of X
// Versions: v1 not yet measured
#pragma once
#include "../common/memory.cuh"
#include "down_sum.cuh"

struct LowRankDownParams {
    const void* x;
    const void* a;
    int x_stride, a_stride;  // bytes, of 64 rows an int too
    int columns;
    LowRankDownTarget to;
};

// Steps of 256 columns of a block that are on their way at once, by what fits registers.
template <int Tiles, int RowTiles> constexpr int DownDepth = RowTiles == 1 ? (Tiles <= 2 ? 6 : 4)
                                                             : RowTiles == 2 ? (Tiles <= 2 ? 4 : 2)
                                                                             : 2;

template <typename T, int Tiles, int RowTiles> __device__ __forceinline__ void lowrank_down(const LowRankDownParams& p) {
    constexpr int Depth = DownDepth<Tiles, RowTiles>, Rows = 16 * RowTiles;
    constexpr int Ahead = Tiles <= 4 ? 1 : 0, Some = Ahead ? Tiles : 2;
    constexpr int StepBytes = DownColumns * sizeof(T);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    int row0 = blockIdx.x * Rows + g, column0 = warp * 32 + t * 8;
    const char* rows = (const char*)p.x + (long long)row0 * p.x_stride + column0 * sizeof(T);
    const char* factor = (const char*)p.a + (long long)g * p.a_stride + column0 * sizeof(T);

    // A lane's packs of the next steps; what lies outside is zero.
    uint4 x[Depth][2 * RowTiles], a[Ahead + 1][Some];
    auto load = [&](int slot, int step, int column) {
#pragma unroll
        for (int n = 0; n < 2 * RowTiles; n++) {
            x[slot][n] = make_uint4(0, 0, 0, 0);
            if (row0 + n * 8 < p.to.rows && column < p.columns)
                x[slot][n] = load_stream(rows + (p.x_stride * (8 * n) + step * StepBytes));
        }
    };
    auto load_factor = [&](int slot, int tile, int step, int column) {
#pragma unroll
        for (int n = 0; n < Some; n++) {
            a[slot][n] = make_uint4(0, 0, 0, 0);
            if ((tile + n) * 8 < p.to.width && column < p.columns)
                a[slot][n] = __ldg((const uint4*)(factor + (p.a_stride * (8 * (tile + n)) + step * StepBytes)));
        }
    };

    float sum[RowTiles][Tiles][4];
#pragma unroll
    for (int m = 0; m < RowTiles; m++)
#pragma unroll
        for (int n = 0; n < Tiles; n++) sum[m][n][0] = sum[m][n][1] = sum[m][n][2] = sum[m][n][3] = 0;
#pragma unroll
    for (int step = 0; step < Depth; step++) load(step, step, column0 + step * DownColumns);
    if (Ahead) load_factor(0, 0, 0, column0);

    for (int first = warp * 32; first < p.columns; first += Depth * DownColumns) {
        int column = first + t * 8;
#pragma unroll
        for (int step = 0; step < Depth; step++) {
            int next = step + Ahead, own = step & Ahead;
#pragma unroll
            for (int tile = 0; tile < Tiles; tile += Some) {
                load_factor(next & Ahead, tile, next, column + next * DownColumns);
#pragma unroll
                for (int m = 0; m < RowTiles; m++) {
                    const uint4 &low = x[step][2 * m], &high = x[step][2 * m + 1];
                    uint32_t front[4] = {low.x, high.x, low.y, high.y}, back[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
                    for (int n = 0; n < Some; n++) {
                        mma<T>(sum[m][tile + n], front, a[own][n].x, a[own][n].y);
                        mma<T>(sum[m][tile + n], back, a[own][n].z, a[own][n].w);
                    }
                }
            }
            load(step, step + Depth, column + (step + Depth) * DownColumns);

            // Without a branch the compiler moves the loads of all steps behind the last one's products.
            if (first + (step + 1) * DownColumns >= p.columns) break;
        }
        rows += Depth * StepBytes, factor += Depth * StepBytes;
    }
    store_down<T, Tiles, RowTiles>(sum, p.to);
}
