// Tiles of 16-bit elements in shared memory and their products on tensor cores.
//
// A tile [rows][D] has rows of D + 8 elements. The 8 extra ones shift each row by 16 bytes modulo 128, so that the eight
// rows of an 8×8 matrix lie in different banks (2·(D + 8) = 16, 80 or 144 modulo 128 for all D used) without swizzling.
// Accumulators of a warp: c[n][0..3] is its 16×8 block n in the layout of mma.
#pragma once
#include "../common/mma.cuh"
#include "params.cuh"

template <int D> constexpr int TileStride = D + 8;

// Rows [0, rows) of a matrix into a tile; rows and columns that it lacks become zero. Asynchronous where `vectors`.
template <typename T, int D, int Rows, int Threads>
__device__ __forceinline__ void load_tile(T* tile, const T* from, long long stride, int rows, int columns, bool vectors) {
    if (vectors) {
        // Nothing is read through the addresses of pieces that are left out.
        constexpr int Chunks = D / 8, Count = Rows * Chunks;
        if constexpr (Threads % Chunks == 0 && Count % Threads == 0) {
            constexpr int Step = Threads / Chunks;
            int row = threadIdx.x / Chunks, c = threadIdx.x % Chunks * 8;
            int left = c < columns ? rows - row : 0;
            T* to = tile + row * TileStride<D> + c;
            from += row * stride + c;
#pragma unroll
            for (int n = 0; n < Rows; n += Step, from += Step * stride) copy_async_16(to + n * TileStride<D>, from, n < left);
        } else {
#pragma unroll
            for (int n = 0; n < (Count + Threads - 1) / Threads; n++) {
                int i = n * Threads + threadIdx.x, row = i / Chunks, c = i % Chunks * 8;
                if (Count % Threads == 0 || i < Count)
                    copy_async_16(tile + row * TileStride<D> + c, from + row * stride + c, row < rows && c < columns);
            }
        }
        return;
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < Rows * D; i += Threads) {
        int row = i / D, c = i % D;
        tile[row * TileStride<D> + c] = row < rows && c < columns ? from[row * stride + c] : from_float<T>(0.0f);
    }
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

// One step of c[16][8·N] += a·bᵀ along D: 16 columns of both. b is a column_address.
template <typename T, int D, int N>
__device__ __forceinline__ void multiply_step(float (&c)[N][4], const uint32_t (&a)[4], uint32_t b, int step) {
#pragma unroll
    for (int n = 0; n < N / 2; n++) {
        uint32_t f[4];
        load_matrices(f, b + (n * 16 * TileStride<D> + step * 16) * 2);
        mma<T>(c[2 * n], a, f[0], f[1]);
        mma<T>(c[2 * n + 1], a, f[2], f[3]);
    }
}

// c[16][8·N] = a[16][D]·b[8·N][D]ᵀ, both in shared memory: a is a block_address, b a column_address.
template <typename T, int D, int N> __device__ __forceinline__ void multiply_rows(float (&c)[N][4], uint32_t a, uint32_t b) {
#pragma unroll
    for (int n = 0; n < N; n++) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
#pragma unroll
    for (int step = 0; step < D / 16; step++) {
        uint32_t f[4];
        load_matrices(f, a + step * 32);
        multiply_step<T, D>(c, f, b, step);
    }
}

// The same with a in registers.
template <typename T, int D, int N>
__device__ __forceinline__ void multiply_rows(float (&c)[N][4], const uint32_t (&a)[D / 16][4], uint32_t b) {
#pragma unroll
    for (int n = 0; n < N; n++) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
#pragma unroll
    for (int step = 0; step < D / 16; step++) multiply_step<T, D>(c, a[step], b, step);
}

// c[16][D] += p[16][8·N]·b[8·N][D]: p is rounded to T, b is a block_address.
template <typename T, int D, int N>
__device__ __forceinline__ void multiply_add(float (&c)[D / 8][4], const float (&p)[N][4], uint32_t b) {
#pragma unroll
    for (int step = 0; step < N / 2; step++) {
        uint32_t a[4] = {
            pack2<T>(p[2 * step][0], p[2 * step][1]), pack2<T>(p[2 * step][2], p[2 * step][3]),
            pack2<T>(p[2 * step + 1][0], p[2 * step + 1][1]), pack2<T>(p[2 * step + 1][2], p[2 * step + 1][3])};
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t f[4];
            load_matrices_transposed(f, b + (step * 16 * TileStride<D> + n * 16) * 2);
            mma<T>(c[2 * n], a, f[0], f[1]);
            mma<T>(c[2 * n + 1], a, f[2], f[3]);
        }
    }
}

// Writes the warp's 16 rows, times one factor for rows g and one for rows g + 8, by way of `tile`: 16 rows of shared
// memory that no other warp uses.
template <typename T, int D>
__device__ __forceinline__ void store_rows(
    T* tile, const float (&c)[D / 8][4], float factor0, float factor1, T* to, long long stride, int rows, int columns, bool vectors) {
    int lane = threadIdx.x & 31;
    T* mine = tile + (lane >> 2) * TileStride<D> + (lane & 3) * 2;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        *reinterpret_cast<uint32_t*>(mine + n * 8) = pack2<T>(c[n][0] * factor0, c[n][1] * factor0);
        *reinterpret_cast<uint32_t*>(mine + 8 * TileStride<D> + n * 8) = pack2<T>(c[n][2] * factor1, c[n][3] * factor1);
    }
    __syncwarp();
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
