// What the kernels of the low-rank path are told. An adapted stack is one frozen matrix W [N, K] of up to four linears that
// share their input X [M, K]; linear i has the outputs [begin, end) of N and the columns [at, at + width) of the border, where
// its S = scale·X·Aᵀ, its dS = scale·dY·B and its columns of B lie. width is its rank rounded up to 8.
#pragma once
#include "../common/mma.cuh"

constexpr int MostLinears = 4;

struct LowRankLinear {
    int begin;  // outputs
    int end;
    int at;     // columns of the border
    int width;
    int rank;
    float scale;
    float* gradient;  // dB [end - begin, rank] or dA [rank, K], added to
    int block;        // its first block of columns
    long long partial;  // where its partial sums begin, in floats
};

struct LowRankStack {
    LowRankLinear linears[MostLinears];
    int count;
};

// Tiles of 16-bit elements in shared memory: pieces of 16 bytes, their number exclusive-ored with the row's
// last three bits, so that the eight rows of an 8×8 matrix lie in different banks.
template <int Columns> __device__ __forceinline__ int tile_offset(int row, int column) {
    return row * Columns + ((column >> 3) ^ (row & 7)) * 8 + (column & 7);
}

// The two values of a pair as pack2 made it.
template <typename T> __device__ __forceinline__ float2 unpack2(uint32_t pair);
template <> __device__ __forceinline__ float2 unpack2<bf16>(uint32_t pair) {
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}
template <> __device__ __forceinline__ float2 unpack2<f16>(uint32_t pair) {
    return make_float2(__half2float(__ushort_as_half((uint16_t)pair)), __half2float(__ushort_as_half((uint16_t)(pair >> 16))));
}
