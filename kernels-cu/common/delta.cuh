// Δ = Σ scale·B·A of one or several adapters, formed a tile at a time and never held as a whole. Each element is one chain of
// fused multiply-adds from 0 over the adapters and their ranks in order, whatever the tile: the bits of the CPU.
//
// The factors lie packed in f32, rank by rank: left [rank, rows], right [rank, columns] of the matrix as it is stored, padded
// with zeros to multiples of 128, so that a tile needs no bounds and every row begins at a multiple of 16 bytes.
#pragma once
#include "types.cuh"

constexpr int DeltaRows = 64, DeltaColumns = 128, DeltaThreads = 256, DeltaSlice = 32;
constexpr int DeltaSharedBytes = DeltaSlice * (DeltaRows + DeltaColumns) * 4;

struct DeltaFactors {
    const float* left;
    const float* right;
    long long left_stride;
    long long right_stride;
    int rank;
};

// Thread (tx, ty) of 16 × 16 owns rows 4·ty to 4·ty + 3 and 8 columns: packs of N neighbours, 16·N apart, so that 16 threads
// read 16·N neighbouring elements of W. Number j of its columns within the tile:
template <int N> __device__ __forceinline__ int delta_column(int j) {
    return j / N * (16 * N) + (int)(threadIdx.x % 16) * N + j % N;
}

// Leaves the last slice in shared memory (DeltaSharedBytes, aligned to 16): synchronise before using it for something else.
template <int N>
__device__ __forceinline__ void delta_tile(const DeltaFactors& f, int row, int column, void* shared, float (&delta)[4][8]) {
    float4* left = (float4*)shared;                   // [slice][16]
    float4* right = left + DeltaSlice * DeltaRows / 4;  // [slice][32], the first 4 columns of all threads, then the other 4
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) delta[i][j] = 0;
    for (int begin = 0; begin < f.rank; begin += DeltaSlice) {
        int ranks = min(DeltaSlice, f.rank - begin);
        if (begin > 0) __syncthreads();
        for (int i = threadIdx.x; i < ranks * (DeltaRows / 4); i += DeltaThreads) {
            int k = i / (DeltaRows / 4), quad = i % (DeltaRows / 4);
            left[i] = *reinterpret_cast<const float4*>(f.left + (begin + k) * f.left_stride + row + 4 * quad);
        }
        for (int i = threadIdx.x; i < ranks * (DeltaColumns / 4); i += DeltaThreads) {
            int k = i / (DeltaColumns / 4), quad = i % (DeltaColumns / 4);
            int place = N == 8 ? (quad & 1) * 16 + (quad >> 1) : quad;
            right[k * (DeltaColumns / 4) + place] =
                *reinterpret_cast<const float4*>(f.right + (begin + k) * f.right_stride + column + 4 * quad);
        }
        __syncthreads();
#pragma unroll 4
        for (int k = 0; k < ranks; k++) {
            float4 a = left[k * 16 + ty], b0 = right[k * 32 + tx], b1 = right[k * 32 + 16 + tx];
            float l[4] = {a.x, a.y, a.z, a.w}, r[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) delta[i][j] = fmaf(l[i], r[j], delta[i][j]);
        }
    }
}

// One adapter's A [rank, inputs] and B [outputs, rank] to packed rows: A as it is, scale·B (rounded to f32) transposed.
struct DeltaPackParams {
    const void* a;
    const void* b;
    float* packed_a;
    float* packed_b;
    long long a_stride;
    long long b_stride;
    long long packed_a_stride;
    long long packed_b_stride;
    int a_type;
    int b_type;
    int rank;
    int inputs;
    int outputs;
    float scale;
    int a_tiles;  // blocks that copy tiles of 32 × 32 of A; the rest transposes B
};

__device__ __forceinline__ float delta_load(const void* p, long long i, int code) {
    return code == F64 ? (float)((const double*)p)[i] : load_any(p, i, code);
}

// 256 threads, one tile each block.
__device__ __forceinline__ void delta_pack(const DeltaPackParams& p) {
    __shared__ float tile[32][33];
    int tx = threadIdx.x % 32, ty = threadIdx.x / 32;
    bool is_a = (int)blockIdx.x < p.a_tiles;
    int block = is_a ? blockIdx.x : blockIdx.x - p.a_tiles;
    int across = (int)((is_a ? p.packed_a_stride : p.packed_b_stride) / 32);
    int k0 = block / across * 32, c0 = block % across * 32;
    if (is_a) {
        for (int k = k0 + ty; k < min(k0 + 32, p.rank); k += 8) {
            int c = c0 + tx;
            p.packed_a[k * p.packed_a_stride + c] = c < p.inputs ? delta_load(p.a, k * p.a_stride + c, p.a_type) : 0.0f;
        }
        return;
    }
    for (int i = ty; i < 32; i += 8) {
        int n = c0 + i, k = k0 + tx;
        tile[i][tx] =
            n < p.outputs && k < p.rank ? __fmul_rn(delta_load(p.b, n * p.b_stride + k, p.b_type), p.scale) : 0.0f;
    }
    __syncthreads();
    for (int i = ty; i < 32 && k0 + i < p.rank; i += 8) p.packed_b[(k0 + i) * p.packed_b_stride + c0 + tx] = tile[tx][i];
}
