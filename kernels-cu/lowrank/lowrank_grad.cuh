// lowrank_grad_y — partial sums of dB = dYᵀ·S and of dS = dY·B in one pass over dY
// lowrank_grad_x — those of dA = dSᵀ·X, or of dB alone
// Shapes: Z [M,C] is dY or X, F [M,R] is S or dS, U [C,R] is B; strides are multiples of 8; widths are multiples of 8, at most
//   8·Tiles a linear
// Dtypes: bf16 | f16, f32 sums.  Arch: sm_80+
// Bytes: Z once.  Flops: 2·M·C·r for each of the two results.  Bound: memory, target >= 80% of copy bandwidth
// Algorithm: a block owns 128·Groups columns of one linear and a range of rows, 64 at a time; tiles of 64 × 128 arrive by
//   cp.async in a ring of 4 and are used twice: transposed (8 warps of 16 columns, sums over all rows stay in registers) and as
//   they are (4 × 16 rows, the warps' halves split the columns). Sums over row blocks (gradients) and over column blocks (dS) are
//   lowrank_sum's, which has the whole GPU for them.
// Numerics: deterministic: blocks depend on shapes alone
// Versions: v1, dS added up by the block that came last to 64 rows: 33% of copy at 8192×4096, r 16 (H200, 2026-11-27)
//   v2 with lowrank_sum: grad_y 51% at 8192×4096 and 66% at 8192×14336, grad_x 61% and 82%; the sums' launch included
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

constexpr int GradThreads = 256, GradRows = 64, GradColumns = 128, GradStages = 4;

// Groups of 128 columns a block keeps sums of, 32 registers a thread at most. Where dS is formed too, near-square blocks leave the
// fewest partial sums; for gradients alone narrow ones do.
template <int Tiles, bool Down> constexpr int GradGroups = !Down ? 1 : Tiles <= 2 ? 4 : Tiles == 4 ? 2 : 1;

// Shared memory: ring of Z, ring of F, the block's part of U, halves of dS.
template <int Tiles, bool Down> constexpr int GradSharedBytes =
    2 * (GradStages * GradRows * GradColumns + (GradStages + 1) * GradRows * Tiles * 8 +
         (Down ? GradGroups<Tiles, Down> * GradColumns * Tiles * 8 : 0)) +
    (Down ? 4 * GradRows * Tiles * 8 : 0);

// Rows of 8·Tiles elements for transposed reads: 16-byte pieces moved by the row where that avoids conflicts.
template <int Tiles> __device__ __forceinline__ int factor_offset(int row, int tile) {
    constexpr int Mask = Tiles % 8 == 0 ? 7 : Tiles % 4 == 0 ? 3 : Tiles % 2 == 0 ? 1 : 0;
    constexpr int Shift = Tiles % 8 == 0 ? 0 : Tiles % 4 == 0 ? 1 : 2;
    return row * (Tiles * 8) + (tile ^ ((row >> Shift) & Mask)) * 8;
}

template <typename T, int Tiles, bool Down> __device__ void lowrank_grad(const LowRankGradParams& p) {
    constexpr int R = Tiles * 8, Groups = GradGroups<Tiles, Down>, Block = Groups * GradColumns;
    T* ring = dynamic_shared<T>();
    T* factors = ring + GradStages * GradRows * GradColumns;
    T* up = factors + (GradStages + 1) * GradRows * R;
    float* halves = (float*)(up + Block * R);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;

    int column_block = blockIdx.x % p.column_blocks, row_block = blockIdx.x / p.column_blocks;
    LowRankLinear linear = p.stack.linears[0];
#pragma unroll
    for (int i = 1; i < MostLinears; i++)
        if (i < p.stack.count && column_block >= p.stack.linears[i].block) linear = p.stack.linears[i];
    int own_block = column_block - linear.block;
    int first = linear.begin + own_block * Block, columns = min(Block, linear.end - first);
    long long row0 = (long long)row_block * p.row_groups * GradRows;
    int groups = (int)min((long long)p.row_groups, (p.rows - row0 + GradRows - 1) / GradRows);
    int tiles = groups * Groups;

    const T* z = (const T*)p.z + first;
    const T* f = (const T*)p.f + linear.at;
    auto load = [&](int i) {
        if (i < tiles) {
            int o = i / Groups, group = i % Groups;
            long long row1 = row0 + o * GradRows;
            T* tile = ring + i % GradStages * (GradRows * GradColumns);
            int piece = (threadIdx.x & 15) * 8, column = group * GradColumns + piece;
#pragma unroll
            for (int n = 0; n < GradRows; n += GradThreads / 16) {
                int row = n + threadIdx.x / 16;
                copy_async_16(
                    tile + tile_offset<GradColumns>(row, piece), z + (row1 + row) * p.z_stride + column,
                    row1 + row < p.rows && column < columns);
            }
            if (group == 0) {
                T* factor = factors + o % (GradStages + 1) * (GradRows * R);
                for (int n = threadIdx.x; n < GradRows * Tiles; n += GradThreads) {
                    int row = n / Tiles, c = n % Tiles;
                    copy_async_16(
                        factor + factor_offset<Tiles>(row, c), f + (row1 + row) * p.f_stride + c * 8,
                        row1 + row < p.rows && c * 8 < linear.width);
                }
            }
        }
        commit_copies();
    };

    if (Down)
        for (int n = threadIdx.x; n < Block * Tiles; n += GradThreads) {
            int row = n / Tiles, c = n % Tiles;
            copy_async_16(
                up + factor_offset<Tiles>(row, c), (const T*)p.u + (long long)(first + row) * p.u_stride + linear.at + c * 8,
                row < columns && c * 8 < linear.width);
        }
    float sum[Groups][Tiles][4], down[Tiles][4];
#pragma unroll
    for (int q = 0; q < Groups; q++)
#pragma unroll
        for (int n = 0; n < Tiles; n++) sum[q][n][0] = sum[q][n][1] = sum[q][n][2] = sum[q][n][3] = 0;
#pragma unroll
    for (int i = 0; i < GradStages - 1; i++) load(i);

    int t = (lane & 3) * 2, g = lane >> 2;
    for (int o = 0; o < groups; o++) {
#pragma unroll
        for (int n = 0; n < Tiles; n++) down[n][0] = down[n][1] = down[n][2] = down[n][3] = 0;
#pragma unroll
        for (int q = 0; q < Groups; q++) {
            int i = o * Groups + q;
            wait_for_groups<GradStages - 2>();
            __syncthreads();
            load(i + GradStages - 1);
            const T* tile = ring + i % GradStages * (GradRows * GradColumns);
            const T* factor = factors + o % (GradStages + 1) * (GradRows * R);
#pragma unroll
            for (int k = 0; k < GradRows; k += 16) {
                uint32_t a[4];
                int row = k + (lane & 7) + (lane >> 4) * 8, column = warp * 16 + ((lane >> 3) & 1) * 8;
                load_matrices_transposed(a, shared_address(tile + tile_offset<GradColumns>(row, column)));
#pragma unroll
                for (int n = 0; n < Tiles; n += 2) {
                    uint32_t b[4];
                    int c = n + (n + 1 < Tiles ? lane >> 4 : 0);
                    load_matrices_transposed(b, shared_address(factor + factor_offset<Tiles>(k + (lane & 15), c)));
                    mma<T>(sum[q][n], a, b[0], b[1]);
                    if (n + 1 < Tiles) mma<T>(sum[q][n + 1], a, b[2], b[3]);
                }
            }
            if constexpr (Down) {
                int half = (warp >> 2) * 64;
#pragma unroll
                for (int k = 0; k < 64; k += 16) {
                    uint32_t a[4];
                    int row = (warp & 3) * 16 + (lane & 15), column = half + k + (lane >> 4) * 8;
                    load_matrices(a, shared_address(tile + tile_offset<GradColumns>(row, column)));
#pragma unroll
                    for (int n = 0; n < Tiles; n += 2) {
                        uint32_t b[4];
                        int c = n + (n + 1 < Tiles ? lane >> 4 : 0);
                        load_matrices_transposed(
                            b, shared_address(up + factor_offset<Tiles>(q * GradColumns + half + k + (lane & 15), c)));
                        mma<T>(down[n], a, b[0], b[1]);
                        if (n + 1 < Tiles) mma<T>(down[n + 1], a, b[2], b[3]);
                    }
                }
            }
        }
        if constexpr (Down) {
            long long row_group = (long long)row_block * p.row_groups + o;
            float* mine = p.down_partial + (row_group * p.column_blocks + column_block) * (GradRows * R);
            // The second half of the warps hands its sums over; halves is free again: the loop's barriers lie between.
            if (warp >= 4)
#pragma unroll
                for (int n = 0; n < Tiles; n++)
#pragma unroll
                    for (int h = 0; h < 2; h++)
                        *(float2*)(halves + ((warp & 3) * 16 + g + h * 8) * R + n * 8 + t) =
                            make_float2(down[n][2 * h], down[n][2 * h + 1]);
            __syncthreads();
            if (warp < 4)
#pragma unroll
                for (int n = 0; n < Tiles; n++)
#pragma unroll
                    for (int h = 0; h < 2; h++) {
                        int at = (warp * 16 + g + h * 8) * R + n * 8 + t;
                        float2 other = *(const float2*)(halves + at);
                        *(float2*)(mine + at) = make_float2(down[n][2 * h] + other.x, down[n][2 * h + 1] + other.y);
                    }
        }
    }
    wait_for_copies();

    if (!linear.gradient) return;
    float* partial = p.partial + row_block * p.partial_stride + linear.partial;
    int extent = linear.end - linear.begin;
#pragma unroll
    for (int q = 0; q < Groups; q++)
#pragma unroll
        for (int n = 0; n < Tiles; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int column = own_block * Block + q * GradColumns + warp * 16 + g + (e >> 1) * 8, j = n * 8 + t + (e & 1);
                if (column < extent && j < linear.width)
                    partial[Down ? (long long)column * linear.width + j : (long long)j * extent + column] = sum[q][n][e];
            }
}
