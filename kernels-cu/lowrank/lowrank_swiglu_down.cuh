// lowrank_swiglu_down — y = silu(g)·u and S = scale·y·Aᵀ in one pass over g and u
// Shapes: g, u, y [M,C], A [width,C], S [M,width], as a rule in y's border, and as a copy without gaps; C, width and
//   strides are multiples of 8, width at most 8·Tiles; a scale for each 8 columns of S
// Dtypes: bf16 | f16, f32 sums; S is that of y as it is rounded.  Arch: sm_80+
// Bytes: 3·M·C·e.  Flops: 2·M·C·width and the activation.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: a block owns 16·RowTiles rows, its 8 warps take 32 columns each in turn, together 512 neighbouring bytes of a row.
//   Which column is which k of a product is free as long as both operands agree: a lane loads 8 neighbours of g and u, and the y
//   that it forms and stores is its part of two products' fragments as it is, and so are the same 8 neighbours of A. Operands need
//   no shared memory; only the warps' sums meet there at the end. A, 256 KB at 8192 columns and rank 16, comes from the L2 cache
//   once a block: 32 rows make that half of what 16 would. A warp's loads are a step ahead, 32 rows of 32 columns or 16 of 64, 4 KB,
//   which makes 64 KB for the two blocks of a multiprocessor; 16 rows at width 32 have registers for half. 8192 rows are 256
//   blocks of 32 rows, one wave on 132 multiprocessors; up to 4224 go by 16 to reach more of them.
// Numerics: deterministic; y has swiglu_fwd's bits; S is added up by warps, scaled, added in their order and rounded once, with
//   the same bits for either RowTiles.  Aliasing: none
// Versions: v1 78% of copy at 8192×8192, rank 16, 171 µs (H100, 2026-11-27)
#pragma once
#include "../common/memory.cuh"
#include "down_sum.cuh"
#include "swiglu_pack.cuh"

struct LowRankSwiGluDownParams {
    const void* gate;
    const void* up;
    const void* a;
    void* y;
    int gate_stride, up_stride, a_stride, y_stride;  // bytes
    int columns;
    LowRankDownTarget to;
};

template <typename T, int Tiles, int RowTiles> __device__ __forceinline__ void lowrank_swiglu_down(const LowRankSwiGluDownParams& p) {
    // Twice the columns a step make up for half the rows, where registers allow.
    constexpr int Groups = RowTiles == 1 && Tiles <= 2 ? 2 : 1;
    constexpr int Rows = 16 * RowTiles, Step = Groups * DownColumns;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    int row0 = blockIdx.x * Rows + g;
    auto start = [&](const void* matrix, int row, int stride) {
        return (char*)matrix + (long long)row * stride + (warp * 32 + t * 8) * sizeof(T);
    };
    const char *gates = start(p.gate, row0, p.gate_stride), *ups = start(p.up, row0, p.up_stride), *factor = start(p.a, g, p.a_stride);
    char* to = start(p.y, row0, p.y_stride);

    // A lane's packs of the next step; what lies outside is zero, and so is its y.
    uint4 gate[Groups][2 * RowTiles], up[Groups][2 * RowTiles];
    auto load = [&](int group, int n, int first) {
        int column = first + group * DownColumns + t * 8;
        gate[group][n] = up[group][n] = make_uint4(0, 0, 0, 0);
        if (row0 + n * 8 < p.to.rows && column < p.columns) {
            gate[group][n] = load_stream(gates + (long long)p.gate_stride * (8 * n) + group * DownColumns * sizeof(T));
            up[group][n] = load_stream(ups + (long long)p.up_stride * (8 * n) + group * DownColumns * sizeof(T));
        }
    };

    float sum[RowTiles][Tiles][4];
    clear_down(sum);
#pragma unroll
    for (int group = 0; group < Groups; group++)
#pragma unroll
        for (int n = 0; n < 2 * RowTiles; n++) load(group, n, warp * 32);

    for (int first = warp * 32; first < p.columns; first += Step) {
        gates += Step * sizeof(T), ups += Step * sizeof(T);
#pragma unroll
        for (int group = 0; group < Groups; group++) {
            int column = first + group * DownColumns + t * 8;
            bool inside = column < p.columns;
            uint4 a[Tiles];
#pragma unroll
            for (int n = 0; n < Tiles; n++) {
                a[n] = make_uint4(0, 0, 0, 0);
                if (n * 8 < p.to.width && inside)
                    a[n] = __ldg((const uint4*)(factor + (long long)p.a_stride * (8 * n) + group * DownColumns * sizeof(T)));
            }
#pragma unroll
            for (int m = 0; m < RowTiles; m++) {
                uint32_t y[2][4];
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    int n = 2 * m + h;
                    uint4 own = gate[group][n], other = up[group][n];
                    load(group, n, first + Step);
                    swiglu_pack<T>(own, other, y[h]);
                    if (row0 + n * 8 < p.to.rows && inside)
                        *(uint4*)(to + (long long)p.y_stride * (8 * n) + group * DownColumns * sizeof(T)) =
                            make_uint4(y[h][0], y[h][1], y[h][2], y[h][3]);
                }
                uint32_t front[4] = {y[0][0], y[1][0], y[0][1], y[1][1]}, back[4] = {y[0][2], y[1][2], y[0][3], y[1][3]};
#pragma unroll
                for (int n = 0; n < Tiles; n++) {
                    mma<T>(sum[m][n], front, a[n].x, a[n].y);
                    mma<T>(sum[m][n], back, a[n].z, a[n].w);
                }
            }
        }
        factor += Step * sizeof(T), to += Step * sizeof(T);
    }

    store_down<T, Tiles, RowTiles>(sum, p.to);
}
