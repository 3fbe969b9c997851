// How lowrank_down and lowrank_swiglu_down end: what each warp of a block added up over its columns becomes S.
#pragma once
#include "params.cuh"

constexpr int DownThreads = 256, DownWarps = DownThreads / 32, DownColumns = 32 * DownWarps;
constexpr int MostDownTiles = 4;

struct LowRankDownTarget {
    void* s;
    void* copy;    // S once more with no gap between rows, or null
    int s_stride;  // bytes
    int rows;
    int width;
    float scales[MostDownTiles];  // of eight columns each
};

// Not `= {}`: with that the compiler makes up to 8% more code of the loops that follow (nvcc 11.8).
template <int Tiles, int RowTiles> __device__ __forceinline__ void clear_down(float (&sum)[RowTiles][Tiles][4]) {
#pragma unroll
    for (int m = 0; m < RowTiles; m++)
#pragma unroll
        for (int n = 0; n < Tiles; n++) sum[m][n][0] = sum[m][n][1] = sum[m][n][2] = sum[m][n][3] = 0;
}

// sum holds a warp's products of 16·RowTiles rows in the layout of mma. Each warp's are scaled here, where a tile's number is known
// to the compiler and the scales stay parameters, then added in the warps' order and rounded once. Rows lie an odd multiple of
// eight floats apart, so that a half-warp's pairs are in different banks.
template <typename T, int Tiles, int RowTiles>
__device__ __forceinline__ void store_down(const float (&sum)[RowTiles][Tiles][4], const LowRankDownTarget& to) {
    constexpr int R = Tiles * 8, Stride = Tiles % 2 ? R : R + 8, Rows = 16 * RowTiles;
    static_assert(Tiles <= MostDownTiles && DownWarps * Rows * Stride * 4 <= 48 << 10, "static shared memory has room");
    __shared__ float parts[DownWarps][Rows][Stride];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int m = 0; m < RowTiles; m++)
#pragma unroll
        for (int n = 0; n < Tiles; n++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                *(float2*)&parts[warp][m * 16 + h * 8 + g][n * 8 + t * 2] =
                    make_float2(sum[m][n][2 * h] * to.scales[n], sum[m][n][2 * h + 1] * to.scales[n]);
    __syncthreads();
    for (int e = threadIdx.x; e < Rows * R / 2; e += DownThreads) {
        int k = e / (R / 2), j = e % (R / 2) * 2, row = blockIdx.x * Rows + k;
        float2 total = make_float2(0, 0);
#pragma unroll
        for (int w = 0; w < DownWarps; w++) {
            float2 part = *(const float2*)&parts[w][k][j];
            total.x += part.x, total.y += part.y;
        }
        if (row < to.rows && j < to.width) {
            uint32_t pair = pack2<T>(total.x, total.y);
            *(uint32_t*)((char*)to.s + (long long)row * to.s_stride + j * sizeof(T)) = pair;
            if (to.copy) *(uint32_t*)((char*)to.copy + ((long long)row * to.width + j) * sizeof(T)) = pair;
        }
    }
}
