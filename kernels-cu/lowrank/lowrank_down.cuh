// lowrank_down — S = scale·X·Aᵀ for a stack of linears
// Shapes: X [M,K], A [width,K], S [M,width], as a rule in X's border, and as a copy without gaps; K, width and the strides of X and
//   A are multiples of 8, width at most 8·Tiles; a scale for each 8 columns of S
// Dtypes: bf16 | f16, f32 sums.  Arch: sm_80+
// Bytes: (M·K + width·(K + 2·M))·e.  Flops: 2·M·K·width.  Bound: memory, target >= 80% of copy bandwidth at 8192×2048
// Algorithm: that of lowrank_swiglu_down with X in place of y. A block owns 16·RowTiles rows, its 8 warps take 32 columns each in
//   turn; a lane's 8 neighbours of X and of A are its part of two products' fragments as they are, and only the warps' sums meet in
//   shared memory. A short row would be over before a loop of loads and products gets going: a ring of registers (DownDepth)
//   has 32 to 64 KB a block on their way before its first product, at 1024 columns and ranks up to 16 all of its rows. A comes from
//   L2 once a block, a step ahead: 32 rows make that half of what 16 would, few rows go by 16 to reach more multiprocessors.
// Numerics: deterministic; S is added up by warps, scaled, added in their order and rounded once, with the same bits for either
//   RowTiles and as lowrank_swiglu_down's.  Aliasing: S may lie between the rows of X
// Versions: v1 9.8 µs at 8192×1024, 15.6 at 8192×2048 (71% of copy), 28 at 8192×4096, rank 16, with the copy. The library's product
//   takes 9.1, 14.8 and 25.7, a launch that copies S 5.9 more (a harness that replays a graph, H100, 2026-11-27); engine bench
//   op: 30.3 µs at 8192×4096, 74% of copy (b8db937, H100). Blocks of 64 rows for ranks up to 64
//   took 19 to 22 µs at 8192×2048 and are gone.
#pragma once
#include "../common/memory.cuh"
#include "down_sum.cuh"

struct LowRankDownParams {
    const void* x;
    const void* a;
    int x_stride, a_stride;  // bytes; of a block's rows they fit an int too
    int columns;
    LowRankDownTarget to;
};

// Steps of 256 columns of a block that are on their way at once, by what fits registers.
template <int Tiles, int RowTiles> constexpr int DownDepth = RowTiles == 1 ? (Tiles <= 2 ? 6 : 4) : Tiles <= 2 ? 4 : 2;

template <typename T, int Tiles, int RowTiles> __device__ __forceinline__ void lowrank_down(const LowRankDownParams& p) {
    constexpr int Depth = DownDepth<Tiles, RowTiles>, Rows = 16 * RowTiles;
    static_assert(Depth % 2 == 0, "A's two places alternate over rounds of the ring");
    constexpr int StepBytes = DownColumns * sizeof(T);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    int row0 = blockIdx.x * Rows + g, column0 = warp * 32 + t * 8;
    const char* rows = (const char*)p.x + (long long)row0 * p.x_stride + column0 * sizeof(T);
    const char* factor = (const char*)p.a + (long long)g * p.a_stride + column0 * sizeof(T);

    // A lane's packs of the next steps; what lies outside is zero.
    uint4 x[Depth][2 * RowTiles], a[2][Tiles];
    auto load = [&](int slot, int step, int column) {
#pragma unroll
        for (int n = 0; n < 2 * RowTiles; n++) {
            x[slot][n] = make_uint4(0, 0, 0, 0);
            if (row0 + n * 8 < p.to.rows && column < p.columns)
                x[slot][n] = load_stream(rows + (p.x_stride * (8 * n) + step * StepBytes));
        }
    };
    auto load_factor = [&](int step, int column) {
#pragma unroll
        for (int n = 0; n < Tiles; n++) {
            a[step & 1][n] = make_uint4(0, 0, 0, 0);
            if (n * 8 < p.to.width && column < p.columns)
                a[step & 1][n] = __ldg((const uint4*)(factor + (p.a_stride * (8 * n) + step * StepBytes)));
        }
    };

    float sum[RowTiles][Tiles][4];
    clear_down(sum);
#pragma unroll
    for (int step = 0; step < Depth; step++) load(step, step, column0 + step * DownColumns);
    load_factor(0, column0);

    for (int first = warp * 32; first < p.columns; first += Depth * DownColumns) {
        int column = first + t * 8;
#pragma unroll
        for (int step = 0; step < Depth; step++) {
            load_factor(step + 1, column + (step + 1) * DownColumns);
#pragma unroll
            for (int m = 0; m < RowTiles; m++) {
                const uint4 &low = x[step][2 * m], &high = x[step][2 * m + 1];
                uint32_t front[4] = {low.x, high.x, low.y, high.y}, back[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
                for (int n = 0; n < Tiles; n++) {
                    mma<T>(sum[m][n], front, a[step & 1][n].x, a[step & 1][n].y);
                    mma<T>(sum[m][n], back, a[step & 1][n].z, a[step & 1][n].w);
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
