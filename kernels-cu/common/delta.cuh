// Δ = Σ scale·B·A of one or several adapters, formed a tile at a time and never held as a whole. Each element is one chain of
// fused multiply-adds from 0 over the adapters and their ranks in order, whatever the tile: the bits of the CPU. Tensor cores
// add in another order and are out of the question.
//
// The factors lie packed in f32, rank by rank: left [rank, rows], right [rank, columns] of the matrix as it is stored, padded
// with zeros to multiples of 256, so that a tile needs no bounds and every row begins at a multiple of 16 bytes.
//
// A tile has 64 rows of 512 bytes of W. Each of 8 warps has 8 rows, each lane 16 bytes of each of them (8 × 8 or 8 × 4
// elements): a warp reads W 512 bytes at a time, and of one rank 8 numbers that are the same for all its lanes (one pass of
// shared memory each 4) and 8 or 4 of each lane's own, for 64 or 32 multiply-adds. W waits in shared memory, not in registers,
// which Δ needs: every thread copies and reads the pieces that are its own, so that no barrier is needed for them.
#pragma once
#include "mma.cuh"

constexpr int DeltaRows = 64, DeltaThreads = 256, DeltaSlice = 16, DeltaWarpRows = 8;

// The elements in one word of 4 bytes.
template <typename T> struct Word;
template <> struct Word<float> {
    static constexpr int H = 1;
    using U = uint32_t;
    static __device__ __forceinline__ void split(uint32_t w, float (&x)[H]) { x[0] = __uint_as_float(w); }
    static __device__ __forceinline__ uint32_t join(const float (&x)[H]) { return __float_as_uint(x[0]); }
};
template <> struct Word<bf16> {
    static constexpr int H = 2;
    using U = uint16_t;
    static __device__ __forceinline__ void split(uint32_t w, float (&x)[H]) {
        x[0] = __uint_as_float(w << 16), x[1] = __uint_as_float(w & 0xffff0000u);
    }
    static __device__ __forceinline__ uint32_t join(const float (&x)[H]) {
        __nv_bfloat162 pair = __floats2bfloat162_rn(x[0], x[1]);
        return *reinterpret_cast<uint32_t*>(&pair);
    }
};
template <> struct Word<f16> {
    static constexpr int H = 2;
    using U = uint16_t;
    static __device__ __forceinline__ void split(uint32_t w, float (&x)[H]) {
        float2 pair = __half22float2(*reinterpret_cast<__half2*>(&w));
        x[0] = pair.x, x[1] = pair.y;
    }
    static __device__ __forceinline__ uint32_t join(const float (&x)[H]) {
        __half2 pair = __floats2half2_rn(x[0], x[1]);
        return *reinterpret_cast<uint32_t*>(&pair);
    }
};

struct DeltaFactors {
    const float* left;
    const float* right;
    long long left_stride;
    long long right_stride;
    int rank;
};

// The same number, of which the compiler knows nothing: what follows from it is computed again instead of being kept in the
// registers that Δ needs.
__device__ __forceinline__ int hidden(int x) {
    asm volatile("" : "+r"(x));
    return x;
}

// A block's tile and a thread's part of it: 8 rows from `first` on, 16 bytes from `column` on.
template <typename T> struct DeltaTile {
    using U = typename Word<T>::U;
    static constexpr int N = Pack<T>::N;          // columns of a lane
    static constexpr int Columns = 32 * N;        // of the tile
    static constexpr int RightQuads = Columns / 4;  // 16-byte pieces of a rank's right factor
    static constexpr int SliceQuads = DeltaSlice * (DeltaRows / 4 + RightQuads);

    int row, left, rows, columns;  // of the tile within the matrix, and its extents
    int first, column;             // of the thread within the tile
    long long stride;
    U* w;       // the thread's first element
    bool fast;  // 16-byte pieces are aligned, and there as a whole or not at all

    __device__ __forceinline__ DeltaTile(
        const void* matrix, long long matrix_stride, int matrix_rows, int matrix_columns, int tiles_across, int tile, bool vectors) {
        row = tile / tiles_across * DeltaRows;
        left = tile % tiles_across * Columns;
        rows = min(DeltaRows, matrix_rows - row);
        columns = min(Columns, matrix_columns - left);
        first = (int)(threadIdx.x / 32) * DeltaWarpRows;
        column = (int)(threadIdx.x % 32) * N;
        stride = matrix_stride;
        w = (U*)matrix + (row + first) * stride + left + column;
        fast = vectors && columns % N == 0;
    }

    // How many elements of the thread's row i there are; 0 or less: none.
    __device__ __forceinline__ int valid(int i) const { return first + i < rows ? columns - column : 0; }

    // The thread's piece of row i in shared memory.
    template <typename P> static __device__ __forceinline__ P* slot(P* pieces, int i) {
        return pieces + i * DeltaThreads + threadIdx.x;
    }

    // Begins to copy the thread's pieces to their slots, zeros where the matrix has none.
    __device__ __forceinline__ void fetch(uint4* pieces) const {
        if (fast) {
#pragma unroll
            for (int i = 0; i < DeltaWarpRows; i++) {
                bool exists = valid(i) > 0;
                copy_async_16(slot(pieces, i), exists ? w + i * stride : w - first * stride - column, exists);
            }
            return;
        }
#pragma unroll 1
        for (int i = 0; i < DeltaWarpRows; i++) {
            int count = valid(i);
            U* to = (U*)slot(pieces, i);
#pragma unroll
            for (int n = 0; n < N; n++) to[n] = n < count ? w[i * stride + n] : (U)0;
        }
    }
};

// Two slices of the widest tile's factors, and W's pieces.
constexpr int DeltaFactorQuads = 2 * DeltaTile<bf16>::SliceQuads;
constexpr int DeltaSharedQuads = DeltaFactorQuads + DeltaWarpRows * DeltaThreads;

// Begins to copy the ranks from `begin` on to shared memory: left [slice][16], right [slice][RightQuads] pieces. A lane that has
// 8 columns reads two neighbouring pieces; the even ones lie before the odd ones, so that lanes read neighbouring addresses.
template <typename T>
__device__ __forceinline__ void delta_fetch(const DeltaFactors& f, const DeltaTile<T>& t, int begin, float4* to) {
    using D = DeltaTile<T>;
    // The loops are short and wait for nothing: unrolled, their addresses would take the registers that Δ needs.
    int ranks = min(DeltaSlice, f.rank - begin);
#pragma unroll 1
    for (int i = threadIdx.x; i < ranks * (DeltaRows / 4); i += DeltaThreads) {
        int k = i / (DeltaRows / 4), quad = i % (DeltaRows / 4);
        copy_async_16(to + i, f.left + (begin + k) * f.left_stride + t.row + 4 * quad, true);
    }
    to += DeltaSlice * (DeltaRows / 4);
#pragma unroll 1
    for (int i = threadIdx.x; i < ranks * D::RightQuads; i += DeltaThreads) {
        int k = i / D::RightQuads, quad = i % D::RightQuads;
        int place = D::N == 8 ? (quad & 1) * 32 + (quad >> 1) : quad;
        copy_async_16(to + k * D::RightQuads + place, f.right + (begin + k) * f.right_stride + t.left + 4 * quad, true);
    }
    commit_copies();
}

// Δ of the thread's elements, and W's pieces in their slots of `pieces`, which are on their way while Δ is formed. `shared` has
// DeltaFactorQuads; synchronise before using it for something else.
template <typename T>
__device__ __forceinline__ void delta_tile(
    const DeltaFactors& f, const DeltaTile<T>& t, float4* shared, uint4* pieces, float (&delta)[DeltaWarpRows][DeltaTile<T>::N]) {
    using D = DeltaTile<T>;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    delta_fetch<T>(f, t, 0, shared);
    t.fetch(pieces);
    commit_copies();
#pragma unroll
    for (int i = 0; i < DeltaWarpRows; i++)
#pragma unroll
        for (int j = 0; j < D::N; j++) delta[i][j] = 0;
    int buffer = 0;
    for (int begin = 0; begin < f.rank; begin += DeltaSlice, buffer ^= 1) {
        // For the first slice W need not have arrived; the others were asked for after it.
        if (begin == 0) wait_for_groups<1>();
        else wait_for_copies();
        // This slice is there for all, and all are done with the one before, in whose place the next one goes.
        __syncthreads();
        if (begin + DeltaSlice < f.rank) delta_fetch<T>(f, t, begin + DeltaSlice, shared + (buffer ^ 1) * D::SliceQuads);
        const float4* left = shared + buffer * D::SliceQuads + 2 * warp;
        const float4* right = shared + buffer * D::SliceQuads + DeltaSlice * (DeltaRows / 4) + lane;
        int ranks = min(DeltaSlice, f.rank - begin);
#pragma unroll 2
        for (int k = 0; k < ranks; k++) {
            float4 l0 = left[k * (DeltaRows / 4)], l1 = left[k * (DeltaRows / 4) + 1];
            float l[8] = {l0.x, l0.y, l0.z, l0.w, l1.x, l1.y, l1.z, l1.w}, r[D::N];
#pragma unroll
            for (int q = 0; q < D::N / 4; q++) {
                float4 v = right[k * D::RightQuads + 32 * q];
                r[4 * q] = v.x, r[4 * q + 1] = v.y, r[4 * q + 2] = v.z, r[4 * q + 3] = v.w;
            }
#pragma unroll
            for (int i = 0; i < DeltaWarpRows; i++)
#pragma unroll
                for (int j = 0; j < D::N; j++) delta[i][j] = fmaf(l[i], r[j], delta[i][j]);
        }
    }
    wait_for_copies();
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
    int a_tiles;      // blocks that copy tiles of 32 × 32 of A; the rest transposes B
    int first_block;  // in a launch for several adapters
};

__device__ __forceinline__ float delta_load(const void* p, long long i, int code) {
    return code == F64 ? (float)((const double*)p)[i] : load_any(p, i, code);
}

// 256 threads, one tile each block.
__device__ __forceinline__ void delta_pack(const DeltaPackParams& p) {
    __shared__ float tile[32][33];
    int tx = threadIdx.x % 32, ty = threadIdx.x / 32;
    int block = blockIdx.x - p.first_block;
    bool is_a = block < p.a_tiles;
    if (!is_a) block -= p.a_tiles;
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
