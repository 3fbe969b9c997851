// lowrank_grad_y — partial sums of dB = dYᵀ·S and of dS = dY·B in one pass over dY
// lowrank_grad_x — those of dA = dSᵀ·X, or of dB alone
// Shapes: Z [M,C] is dY or X, F [M,R] is S or dS, U [C,R] is B; strides are multiples of 8; widths are multiples of 8, at most
//   8·Tiles a linear
// Dtypes: bf16 | f16, f32 sums.  Arch: sm_80+
// Bytes: Z once.  Flops: 2·M·C·r for each of the two results.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: a block of 8 warps, one a multiprocessor, owns 128·Groups columns of one linear and a range of rows, 64 at a time;
//   tiles of 64 × 128 arrive by cp.async in a ring and are used twice: transposed (for dB a warp takes 16 columns, for dA alone 32
//   columns and half of the rows; sums over all rows stay in registers) and as they are (4 × 16 rows, the warps' halves split the
//   columns). F's operands are read from shared memory once for the tiles of the same rows, U's once for all. Sums over row blocks
//   (gradients) and over column blocks (dS) are lowrank_sum's, which has the whole GPU for them.
// Numerics: deterministic: blocks depend on shapes alone
// Versions: v1, dS added up by the block that came last to 64 rows: 33% of copy at 8192×4096, r 16 (H200, 2026-11-27)
//   v2 with lowrank_sum: grad_y 51% at 8192×4096 and 66% at 8192×14336, grad_x 61% and 82%; the sums' launch included
//   v3 factors in registers, one larger block a multiprocessor: half the partial sums of gradients; Z leaves the L2 cache first, so
//   that partial sums stay there. Rank 16, grad_y, the sums' launch included (a harness with v2 beside it, H200, 2026-11-27): 23.6
//   instead of 28.8 µs at 8192×4096, 66.4 instead of 77.4 at 8192×14336; without the hint to the cache 25.1 and 71.0
#pragma once
#include "params.cuh"

struct LowRankGradParams {
    const void* z;
    const void* f;
    const void* u;
    float* partial;        // gradients: [row blocks] of all linears' [columns][width], or [width][columns] for dA
    float* down_partial;   // dS: [64-row groups][column blocks][64][8·Tiles]
    long long z_stride;
    long long f_stride;
    long long u_stride;
    long long rows;
    long long partial_stride;  // floats of a row block
    int row_groups;            // 64-row groups of a block
    int column_blocks;
    LowRankStack stack;
};

constexpr int GradThreads = 256, GradRows = 64, GradColumns = 128, GradTile = GradRows * GradColumns;

// Tiles in the ring. With 99 KB a block, as GPUs of 8.6 and 8.9 have, ranks up to 16 fit; six would leave rank 16 out there.
constexpr int GradStages = 5;

// Groups of 128 columns of a block, whose part of U its warps keep in up to 64 registers a thread and their sums in up to 32, for
// gradients alone 64. Where dS is formed too, near-square blocks leave the fewest partial sums; for gradients alone narrow ones do.
template <int Tiles, bool Down> constexpr int GradGroups = !Down ? 1 : Tiles <= 2 ? 4 : 2;

// Ring of F: what is being read and what the tiles on their way belong to.
template <int Tiles, bool Down> constexpr int GradFactors = (GradStages + GradGroups<Tiles, Down> - 2) / GradGroups<Tiles, Down> + 1;

// Shared memory: ring of Z, ring of F, halves of dS.
template <int Tiles, bool Down> constexpr int GradSharedBytes =
    2 * (GradStages * GradTile + GradFactors<Tiles, Down> * GradRows * Tiles * 8) + (Down ? 4 * GradRows * Tiles * 8 : 0);

// Rows of 8·Tiles elements for transposed reads: 16-byte pieces moved by the row where that avoids conflicts.
template <int Tiles> __device__ __forceinline__ int factor_offset(int row, int tile) {
    constexpr int Mask = Tiles % 8 == 0 ? 7 : Tiles % 4 == 0 ? 3 : Tiles % 2 == 0 ? 1 : 0;
    constexpr int Shift = Tiles % 8 == 0 ? 0 : Tiles % 4 == 0 ? 1 : 2;
    return row * (Tiles * 8) + (tile ^ ((row >> Shift) & Mask)) * 8;
}

// The operands b that 16·Steps rows of a factor are for mma, by steps of 16 rows and tiles of 8 columns.
template <int Tiles, int Steps, typename T>
__device__ __forceinline__ void load_factors(uint32_t (&b)[Steps][Tiles][2], const T* factor, int row) {
    static_assert(Tiles == 1 ? Steps % 2 == 0 : Tiles % 2 == 0, "four matrices a load");
    int lane = threadIdx.x & 31;
    if constexpr (Tiles == 1) {
#pragma unroll
        for (int k = 0; k < Steps; k += 2) {
            uint32_t r[4];
            load_matrices_transposed(r, shared_address(factor + factor_offset<Tiles>(row + k * 16 + lane, 0)));
            b[k][0][0] = r[0], b[k][0][1] = r[1], b[k + 1][0][0] = r[2], b[k + 1][0][1] = r[3];
        }
    } else {
#pragma unroll
        for (int k = 0; k < Steps; k++)
#pragma unroll
            for (int n = 0; n < Tiles; n += 2) {
                uint32_t r[4];
                int from = factor_offset<Tiles>(row + k * 16 + (lane & 15), n + (lane >> 4));
                load_matrices_transposed(r, shared_address(factor + from));
                b[k][n][0] = r[0], b[k][n][1] = r[1], b[k][n + 1][0] = r[2], b[k][n + 1][1] = r[3];
            }
    }
}

template <typename T, int Tiles, bool Down> __device__ __forceinline__ void lowrank_grad(const LowRankGradParams& p) {
    constexpr int R = Tiles * 8, Groups = GradGroups<Tiles, Down>, Block = Groups * GradColumns;
    constexpr int Factors = GradFactors<Tiles, Down>, Lines = GradRows * GradColumns / 8 / GradThreads;
    // In the product over rows a warp takes 16·Parts columns and 16·Steps rows of a tile.
    constexpr int Parts = Down ? 1 : 2, Steps = GradRows / 16 / Parts;
    T* ring = dynamic_shared<T>();
    T* factors = ring + GradStages * GradTile;
    float2* halves = (float2*)(factors + Factors * GradRows * R);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;

    int column_block = blockIdx.x % p.column_blocks, row_block = blockIdx.x / p.column_blocks;
    LowRankLinear linear = p.stack.linears[0];
#pragma unroll
    for (int i = 1; i < MostLinears; i++)
        if (i < p.stack.count && column_block >= p.stack.linears[i].block) linear = p.stack.linears[i];
    int own_block = column_block - linear.block;
    int first = linear.begin + own_block * Block, columns = min(Block, linear.end - first);
    long long row0 = (long long)row_block * p.row_groups * GradRows;
    int rows = (int)min((long long)p.row_groups * GradRows, p.rows - row0), groups = (rows + GradRows - 1) / GradRows;

    // A thread copies a piece of every 16th row. Where the rows of a group are and whether they exist is found at its first tile.
    int piece = (threadIdx.x & 15) * 8, line = threadIdx.x >> 4;
    const T* z = (const T*)p.z + first + piece + (row0 + line) * p.z_stride;
    const T* f = (const T*)p.f + linear.at + row0 * p.f_stride;
    const uint64_t policy = read_once();
    const T* lines[Lines];
    bool exists[Lines];
    auto load = [&](int o, int q, int stage) {
        if (o < groups) {
            if (q == 0)
#pragma unroll
                for (int n = 0; n < Lines; n++) {
                    lines[n] = z + (long long)(o * GradRows + n * 16) * p.z_stride;
                    exists[n] = o * GradRows + n * 16 + line < rows;
                }
            T* tile = ring + stage * GradTile;
            bool inside = q * GradColumns + piece < columns;
#pragma unroll
            for (int n = 0; n < Lines; n++)
                copy_async_16(
                    tile + tile_offset<GradColumns>(n * 16 + line, piece), lines[n] + q * GradColumns, inside && exists[n], policy);
            if (q == 0) {
                T* factor = factors + o % Factors * (GradRows * R);
#pragma unroll
                for (int n = 0; n < GradRows * Tiles; n += GradThreads) {
                    int row = (n + threadIdx.x) / Tiles, c = (n + threadIdx.x) % Tiles;
                    if (row < GradRows)
                        copy_async_16(
                            factor + factor_offset<Tiles>(row, c), f + (long long)(o * GradRows + row) * p.f_stride + c * 8,
                            o * GradRows + row < rows && c * 8 < linear.width);
                }
            }
        }
        commit_copies();
    };

    float sum[Groups * Parts][Tiles][4], down[Tiles][4];
    uint32_t factor[Steps][Tiles][2], ups[Groups][4][Tiles][2];
#pragma unroll
    for (int q = 0; q < Groups * Parts; q++)
#pragma unroll
        for (int n = 0; n < Tiles; n++) sum[q][n][0] = sum[q][n][1] = sum[q][n][2] = sum[q][n][3] = 0;
    // U follows the first tile, through the last stage, whose own first tile is asked for when U is in registers.
    load(0, 0, 0);
    T* up = ring + (GradStages - 1) * GradTile;
    if constexpr (Down) {
        static_assert(Block * R <= GradTile && Block * Tiles % GradThreads == 0, "U fits a stage, in whole steps");
#pragma unroll
        for (int n = 0; n < Block * Tiles; n += GradThreads) {
            int row = (n + threadIdx.x) / Tiles, c = (n + threadIdx.x) % Tiles;
            copy_async_16(
                up + factor_offset<Tiles>(row, c), (const T*)p.u + (long long)(first + row) * p.u_stride + linear.at + c * 8,
                row < columns && c * 8 < linear.width);
        }
        commit_copies();
    }
#pragma unroll
    for (int i = 1; i < GradStages - 1; i++) load(i / Groups, i % Groups, i);

    int t = (lane & 3) * 2, g = lane >> 2, strip = warp & 3, side = warp >> 2;
    if constexpr (Down) {
        wait_for_groups<GradStages - 2>();
        __syncthreads();
#pragma unroll
        for (int q = 0; q < Groups; q++) load_factors(ups[q], up, q * GradColumns + side * 64);
    }

    // dS of a row group: either half of the warps finishes 8 of 16 rows with what the other left for it.
    auto finish = [&](int o) {
        float* mine = p.down_partial + (((long long)row_block * p.row_groups + o) * p.column_blocks + column_block) * (GradRows * R);
#pragma unroll
        for (int n = 0; n < Tiles; n++) {
            float2 other = halves[((strip * Tiles + n) * 2 + side) * 32 + lane];
            float x = side ? down[n][2] : down[n][0], y = side ? down[n][3] : down[n][1];
            *(float2*)(mine + (strip * 16 + side * 8 + g) * R + n * 8 + t) = make_float2(x + other.x, y + other.y);
        }
    };

    int own = Down ? warp * 16 : strip * 32, from = Down ? 0 : side * 32;
    int stage = 0, next = GradStages - 1;
    for (int o = 0; o < groups; o++) {
#pragma unroll
        for (int q = 0; q < Groups; q++) {
            wait_for_groups<GradStages - 2>();
            __syncthreads();
            constexpr int Ahead = GradStages - 1;
            load(o + (q + Ahead) / Groups, (q + Ahead) % Groups, next);
            if (q == 0) {
                load_factors(factor, factors + o % Factors * (GradRows * R), from);
                if constexpr (Down) {
                    if (o > 0) finish(o - 1);
#pragma unroll
                    for (int n = 0; n < Tiles; n++) down[n][0] = down[n][1] = down[n][2] = down[n][3] = 0;
                }
            }
            const T* tile = ring + stage * GradTile;
#pragma unroll
            for (int k = 0; k < Steps; k++)
#pragma unroll
                for (int m = 0; m < Parts; m++) {
                    uint32_t a[4];
                    int row = from + k * 16 + (lane & 7) + (lane >> 4) * 8, column = own + m * 16 + ((lane >> 3) & 1) * 8;
                    load_matrices_transposed(a, shared_address(tile + tile_offset<GradColumns>(row, column)));
#pragma unroll
                    for (int n = 0; n < Tiles; n++) mma<T>(sum[q * Parts + m][n], a, factor[k][n][0], factor[k][n][1]);
                }
            if constexpr (Down) {
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    uint32_t a[4];
                    int row = strip * 16 + (lane & 15), column = side * 64 + k * 16 + (lane >> 4) * 8;
                    load_matrices(a, shared_address(tile + tile_offset<GradColumns>(row, column)));
#pragma unroll
                    for (int n = 0; n < Tiles; n++) mma<T>(down[n], a, ups[q][k][n][0], ups[q][k][n][1]);
                }
            }
            next = stage;
            stage = stage + 1 == GradStages ? 0 : stage + 1;
        }
        // Read after the next barrier, and not written again before the one after it.
        if constexpr (Down) {
            static_assert(Groups >= 2, "a barrier between finish and these writes");
#pragma unroll
            for (int n = 0; n < Tiles; n++)
                halves[((strip * Tiles + n) * 2 + 1 - side) * 32 + lane] =
                    make_float2(side ? down[n][0] : down[n][2], side ? down[n][1] : down[n][3]);
        }
    }
    wait_for_copies();
    __syncthreads();
    if constexpr (Down) finish(groups - 1);

    if (!linear.gradient) return;
    float* partial = p.partial + row_block * p.partial_stride + linear.partial;
    int extent = linear.end - linear.begin;
    if constexpr (Down) {
#pragma unroll
        for (int q = 0; q < Groups; q++)
#pragma unroll
            for (int n = 0; n < Tiles; n++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    int column = own_block * Block + q * GradColumns + own + g + h * 8, j = n * 8 + t;
                    if (column < extent && j < linear.width)
                        *(float2*)(partial + (long long)column * linear.width + j) = make_float2(sum[q][n][2 * h], sum[q][n][2 * h + 1]);
                }
    } else {
        // Either half of the warps, which had half of the rows, finishes 16 of the 32 columns.
        float* others = (float*)ring + lane;
#pragma unroll
        for (int n = 0; n < Tiles; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) others[((strip * 2 + 1 - side) * Tiles * 4 + n * 4 + e) * 32] = side ? sum[0][n][e] : sum[1][n][e];
        __syncthreads();
#pragma unroll
        for (int n = 0; n < Tiles; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int column = own_block * Block + own + side * 16 + g + (e >> 1) * 8, j = n * 8 + t + (e & 1);
                float other = others[((strip * 2 + side) * Tiles * 4 + n * 4 + e) * 32];
                if (column < extent && j < linear.width)
                    partial[(long long)j * extent + column] = (side ? sum[1][n][e] : sum[0][n][e]) + other;
            }
    }
}
