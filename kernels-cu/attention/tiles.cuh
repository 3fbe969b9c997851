// Tiles of 16-bit elements in shared memory and their products on tensor cores.
//
// A tile [rows][D] has rows of D + 8 elements. The 8 extra ones shift each row by 16 bytes modulo 128, so that the eight
// rows of an 8×8 matrix lie in different banks (2·(D + 8) = 16, 80 or 144 modulo 128 for all D used) without swizzling.
// Accumulators of a warp: c[n][0..3] is its 16×8 block n in the layout of mma.
#pragma once
#include "../common/mma.cuh"
#include "params.cuh"
#include "tuning.cuh"
#include <type_traits>

template <int D> constexpr int TileStride = D + 8;

// Copies a matrix tile by tile: rows and columns that it lacks become zero. Asynchronous where `vectors`.
template <typename T, int D, int Rows, int Threads> struct TileLoader {
    static constexpr int Chunks = D / 8, Step = Threads / Chunks;
    // Whether each thread has the same columns in every Step-th row.
    static constexpr bool Even = Threads % Chunks == 0 && Rows % Step == 0;

    const T* from;  // the tile's first row; where Even and `vectors`, this thread's first piece
    long long stride;
    int columns;
    bool vectors;

    __device__ __forceinline__ TileLoader(const T* matrix, long long row_stride, const AttentionShape& n)
        : from(matrix), stride(row_stride), columns(n.dimension), vectors(n.vectors) {
        if (Even && vectors) from += threadIdx.x / Chunks * stride + threadIdx.x % Chunks * 8;
    }

    // The next tile, of which the matrix has `rows` rows.
    __device__ __forceinline__ void load(T* tile, int rows) {
        if (vectors) {
            // Nothing is read through the addresses of pieces that are left out.
            if constexpr (Even) {
                int row = threadIdx.x / Chunks, c = threadIdx.x % Chunks * 8, left = c < columns ? rows - row : 0;
                T* to = tile + row * TileStride<D> + c;
#pragma unroll
                for (int n = 0; n < Rows; n += Step, from += Step * stride) copy_async<16>(to + n * TileStride<D>, from, n < left);
            } else {
#pragma unroll
                for (int n = 0; n < (Rows * Chunks + Threads - 1) / Threads; n++) {
                    int i = n * Threads + threadIdx.x, row = i / Chunks, c = i % Chunks * 8;
                    if (Rows * Chunks % Threads == 0 || i < Rows * Chunks)
                        copy_async<16>(tile + row * TileStride<D> + c, from + row * stride + c, row < rows && c < columns);
                }
                from += Rows * stride;
            }
        } else {
#pragma unroll 1
            for (int i = threadIdx.x; i < Rows * D; i += Threads) {
                int row = i / D, c = i % D;
                tile[row * TileStride<D> + c] = row < rows && c < columns ? from[row * stride + c] : from_float<T>(0.0f);
            }
            from += Rows * stride;
        }
    }
};

// One tile alone.
template <typename T, int D, int Rows, int Threads>
__device__ __forceinline__ void load_tile(T* tile, const T* from, long long stride, int rows, const AttentionShape& n) {
    TileLoader<T, D, Rows, Threads>(from, stride, n).load(tile, rows);
}

// This lane's address for the 16×16 blocks of a tile: as a row-major first operand, or transposed as a second operand
// whose columns are the tile's columns.
template <int D> __device__ __forceinline__ uint32_t block_address(const void* tile) {
    int lane = threadIdx.x & 31;
    return shared_address(tile) + ((lane & 15) * TileStride<D> + (lane >> 4) * 8) * 2;
}

// This lane's address for 16×16 blocks of a tile as a second operand whose columns are the tile's rows.
template <int D> __device__ __forceinline__ uint32_t column_address(const void* tile) {
    int lane = threadIdx.x & 31;
    return shared_address(tile) + (((lane & 7) + (lane >> 4) * 8) * TileStride<D> + ((lane >> 3) & 1) * 8) * 2;
}

__device__ __forceinline__ void clear(float (&c)[4]) { c[0] = c[1] = c[2] = c[3] = 0; }

// Products of a warp that has M tiles of 16 rows: each fragment of the second operand is loaded once for all of them. The
// tiles First to End − 1 take part.

// First operands [m][16][D] in registers.
template <int D, int M> struct HeldRows {
    uint32_t held[M][D / 16][4];

    // From shared memory: the tiles' block_addresses are `address` and every `gap` bytes on.
    __device__ __forceinline__ void load(uint32_t address, uint32_t gap) {
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int step = 0; step < D / 16; step++) load_matrices(held[m][step], address + m * gap + step * 32);
        }
    }

    template <int First, int End> __device__ __forceinline__ void fetch(int) {}
    __device__ __forceinline__ const uint32_t (&at(int m, int step) const)[4] { return held[m][step]; }
};

// The same in shared memory, loaded a step of 16 columns before its use.
template <int D, int M> struct SharedRows {
    uint32_t address, gap;
    uint32_t held[2][M][4];

    __device__ __forceinline__ void load(uint32_t address, uint32_t gap) { this->address = address, this->gap = gap; }

    template <int First, int End> __device__ __forceinline__ void fetch(int step) {
#pragma unroll
        for (int m = First; m < End; m++) load_matrices(held[step & 1][m], address + m * gap + step * 32);
    }
    __device__ __forceinline__ const uint32_t (&at(int m, int step) const)[4] { return held[step & 1][m]; }
};

// c[m][16][8·N] = a[m][16][D]·b[8·N][D]ᵀ: b is a column_address.
template <typename T, int D, int First, int End, int M, int N, typename Rows>
__device__ __forceinline__ void multiply_rows(float (&c)[M][N][4], Rows& a, uint32_t b) {
    // Fragments come some products ahead of their use: a load takes longer than the products of one.
    constexpr int Each = N / 2, Count = Each * (D / 16), Ahead = FragmentsAhead;
    uint32_t f[Ahead + 1][4];
    a.template fetch<First, End>(0);
#pragma unroll
    for (int i = -Ahead; i < Count; i++) {
        int next = i + Ahead, step = i / Each, n = i % Each;
        if (i >= 0 && n == Each - 1 && step + 1 < D / 16) a.template fetch<First, End>(step + 1);
        if (next < Count) load_matrices(f[next % (Ahead + 1)], b + (next % Each * 16 * TileStride<D> + next / Each * 16) * 2);
        if (i < 0) continue;
        const uint32_t(&now)[4] = f[i % (Ahead + 1)];
#pragma unroll
        for (int m = First; m < End; m++) {
            if (step == 0) clear(c[m][2 * n]), clear(c[m][2 * n + 1]);
            mma<T>(c[m][2 * n], a.at(m, step), now[0], now[1]);
            mma<T>(c[m][2 * n + 1], a.at(m, step), now[2], now[3]);
        }
    }
}

// c[m][16][D] += p[m][16][8·N]·b[8·N][D]: p is rounded to T, b is a block_address.
template <typename T, int D, int First, int End, int M, int N>
__device__ __forceinline__ void multiply_add(float (&c)[M][D / 8][4], const float (&p)[M][N][4], uint32_t b) {
#pragma unroll
    for (int step = 0; step < N / 2; step++) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = First; m < End; m++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float* pair = &p[m][2 * step + e / 2][2 * (e & 1)];
                a[m][e] = pack2<T>(pair[0], pair[1]);
            }
        }
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t f[4];
            load_matrices_transposed(f, b + (step * 16 * TileStride<D> + n * 16) * 2);
#pragma unroll
            for (int m = First; m < End; m++) {
                mma<T>(c[m][2 * n], a[m], f[0], f[1]);
                mma<T>(c[m][2 * n + 1], a[m], f[2], f[3]);
            }
        }
    }
}

// Leaves the warp's 16 rows, times one factor for rows g and one for rows g + 8, in `tile`: 16 rows of shared memory that no
// other warp uses.
template <typename T, int D>
__device__ __forceinline__ void put_rows(T* tile, const float (&c)[D / 8][4], float factor0, float factor1) {
    int lane = threadIdx.x & 31;
    T* mine = tile + (lane >> 2) * TileStride<D> + (lane & 3) * 2;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        *reinterpret_cast<uint32_t*>(mine + n * 8) = pack2<T>(c[n][0] * factor0, c[n][1] * factor0);
        *reinterpret_cast<uint32_t*>(mine + 8 * TileStride<D> + n * 8) = pack2<T>(c[n][2] * factor1, c[n][3] * factor1);
    }
    __syncwarp();
}

// Writes those rows by way of a tile.
template <typename T, int D>
__device__ __forceinline__ void store_rows(
    T* tile, const float (&c)[D / 8][4], float factor0, float factor1, T* to, long long stride, int rows, int columns, bool vectors) {
    int lane = threadIdx.x & 31;
    put_rows<T, D>(tile, c, factor0, factor1);
    if (vectors) {
        for (int i = lane; i < 16 * (D / 8); i += 32) {
            int row = i / (D / 8), column = i % (D / 8) * 8;
            if (row < rows && column < columns)
                *reinterpret_cast<uint4*>(to + row * stride + column) = *reinterpret_cast<const uint4*>(tile + row * TileStride<D> + column);
        }
        return;
    }
#pragma unroll 1
    for (int i = lane; i < 16 * D; i += 32) {
        int row = i / D, column = i % D;
        if (row < rows && column < columns) to[row * stride + column] = tile[row * TileStride<D> + column];
    }
}
