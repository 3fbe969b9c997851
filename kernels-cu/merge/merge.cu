// merge_apply — W ← round(W + Δ), Δ = Σ scale·B·A (common/delta.cuh)
// merge_exact — the same, and per tile of 64 × 128 the elements that round(W′ − Δ) does not bring back
// merge_undo — W ← round(W′ − Δ), then those elements; merge_pack and merge_compact prepare and tidy up
// Shapes: W [R,C] with a row stride; any alignment (16-byte accesses where it allows); factors packed, see delta.cuh
// Dtypes: W f32 | bf16 | f16; A, B any float; Δ and the sum in f32.  Arch: sm_80+
// Bytes: 2·R·C·e + 4·r·(R + C), exact: + the records.  Flops: (2r + 1)·R·C.  Bound: memory up to about rank 32
// Algorithm: a block a tile; W's loads are under way while Δ is formed by FFMA from shared memory, 4 × 8 elements a thread;
//   records are counted and placed by a prefix sum over the block and staged in shared memory
// Numerics: the bits of the CPU's Δ and of its sum; records in an order that depends on the shapes alone
// Aliasing: W is changed in place; A and B are not W
#include "../common/delta.cuh"

struct MergeParams {
    void* w;
    DeltaFactors factors;
    unsigned char* segments;   // exact: capacity bytes a tile; undo: at offsets[tile]
    int* counts;               // records of each tile
    const long long* offsets;  // undo alone
    long long stride;
    int rows;
    int columns;
    int tiles_across;
    int vectors;  // nonzero: pointer and stride allow 16-byte accesses
};

template <typename T> struct Bits;
template <> struct Bits<float> {
    using U = uint32_t;
    static __device__ __forceinline__ float value(U u) { return __uint_as_float(u); }
    static __device__ __forceinline__ U of(float x) { return __float_as_uint(x); }
};
template <> struct Bits<bf16> {
    using U = uint16_t;
    static __device__ __forceinline__ float value(U u) { return __uint_as_float((uint32_t)u << 16); }
    static __device__ __forceinline__ U of(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
};
template <> struct Bits<f16> {
    using U = uint16_t;
    static __device__ __forceinline__ float value(U u) { return __half2float(__ushort_as_half(u)); }
    static __device__ __forceinline__ U of(float x) { return __half_as_ushort(__float2half_rn(x)); }
};

// 16 bytes, of which the first `valid` elements exist.
template <typename U> __device__ __forceinline__ uint4 load_raw(const U* p, int valid, bool vectors) {
    constexpr int N = 16 / sizeof(U);
    if (vectors && valid >= N) return *reinterpret_cast<const uint4*>(p);
    uint4 pack = make_uint4(0, 0, 0, 0);
    U* e = reinterpret_cast<U*>(&pack);
#pragma unroll
    for (int n = 0; n < N; n++)
        if (n < valid) e[n] = p[n];
    return pack;
}

template <typename U> __device__ __forceinline__ void store_raw(U* p, uint4 pack, int valid, bool vectors) {
    constexpr int N = 16 / sizeof(U);
    if (vectors && valid >= N) {
        *reinterpret_cast<uint4*>(p) = pack;
        return;
    }
    const U* e = reinterpret_cast<const U*>(&pack);
#pragma unroll
    for (int n = 0; n < N; n++)
        if (n < valid) p[n] = e[n];
}

// The sum of x over the threads before this one, and over all 256.
__device__ __forceinline__ int exclusive_sum(int x, int& total) {
    __shared__ int sums[DeltaThreads / 32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = x;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        int y = __shfl_up_sync(0xffffffffu, sum, d);
        if (lane >= d) sum += y;
    }
    if (lane == 31) sums[warp] = sum;
    __syncthreads();
    int before = 0;
    total = 0;
#pragma unroll
    for (int i = 0; i < DeltaThreads / 32; i++) {
        if (i < warp) before += sums[i];
        total += sums[i];
    }
    return before + sum - x;
}

enum MergeMode { Apply, Exact, Undo };

template <typename T, MergeMode Mode> __device__ __forceinline__ void merge_tile(const MergeParams& p) {
    using B = Bits<T>;
    using U = typename B::U;
    constexpr int N = Pack<T>::N, G = 8 / N;
    constexpr int TileBytes = DeltaRows * DeltaColumns * sizeof(U);
    constexpr int SharedBytes = Mode == Exact && TileBytes > DeltaSharedBytes ? TileBytes : DeltaSharedBytes;
    __shared__ __align__(16) unsigned char shared[SharedBytes];
    int tile_row = (int)(blockIdx.x / p.tiles_across) * DeltaRows;
    int tile_column = (int)(blockIdx.x % p.tiles_across) * DeltaColumns;
    int tile_rows = min(DeltaRows, p.rows - tile_row), tile_columns = min(DeltaColumns, p.columns - tile_column);
    int first = (int)(threadIdx.x / 16) * 4;
    U* w = (U*)p.w + tile_row * p.stride + tile_column;
    // A list takes 2 bytes of offset for each element; where it would be longer than the tile, the tile is kept.
    int limit = tile_rows * tile_columns * (int)sizeof(U);
    auto is_copy = [limit](int count) { return count * (int)(sizeof(U) + 2) > limit; };
    auto valid = [&](int i, int g) { return first + i < tile_rows ? tile_columns - delta_column<N>(g * N) : 0; };
    bool copy_vectors = tile_columns % N == 0;

    const unsigned char* segment = nullptr;
    int records = 0;
    if constexpr (Mode == Undo) {
        records = p.counts[blockIdx.x];
        segment = p.segments + p.offsets[blockIdx.x];
        if (is_copy(records)) {
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int g = 0; g < G; g++) {
                    int row = first + i, column = delta_column<N>(g * N);
                    const U* kept = (const U*)segment + row * tile_columns + column;
                    store_raw<U>(w + row * p.stride + column, load_raw<U>(kept, valid(i, g), copy_vectors), valid(i, g), p.vectors);
                }
            return;
        }
    }

    if constexpr (Mode == Exact) {
        // Segments move in units of 16 bytes: what a tile kept whole leaves of its last one is zeros.
        if ((int)threadIdx.x < (-limit & 15)) p.segments[(long long)blockIdx.x * TileBytes + limit + threadIdx.x] = 0;
    }
    uint4 packs[4][G];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int g = 0; g < G; g++)
            packs[i][g] = load_raw<U>(w + (first + i) * p.stride + delta_column<N>(g * N), valid(i, g), p.vectors);
    float delta[4][8];
    delta_tile<N>(p.factors, tile_row, tile_column, shared, delta);

    unsigned differs = 0;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int g = 0; g < G; g++) {
            const U* e = reinterpret_cast<const U*>(&packs[i][g]);
            uint4 result;
            U* r = reinterpret_cast<U*>(&result);
#pragma unroll
            for (int n = 0; n < N; n++) {
                float d = delta[i][g * N + n], x = B::value(e[n]);
                r[n] = B::of(Mode == Undo ? __fsub_rn(x, d) : __fadd_rn(x, d));
                if (Mode == Exact && n < valid(i, g) && B::of(__fsub_rn(B::value(r[n]), d)) != e[n])
                    differs |= 1u << (i * 8 + g * N + n);
            }
            store_raw<U>(w + (first + i) * p.stride + delta_column<N>(g * N), result, valid(i, g), p.vectors);
        }

    if constexpr (Mode == Undo) {
        // The threads' own stores are before the barrier, so the records win.
        __syncthreads();
        const U* originals = (const U*)segment;
        const uint16_t* places = (const uint16_t*)(originals + records);
        for (int i = threadIdx.x; i < records; i += DeltaThreads)
            w[places[i] / DeltaColumns * p.stride + places[i] % DeltaColumns] = originals[i];
    }

    if constexpr (Mode == Exact) {
        int total, at = exclusive_sum(__popc(differs), total);
        unsigned char* out = p.segments + (long long)blockIdx.x * TileBytes;
        if (threadIdx.x == 0) p.counts[blockIdx.x] = total;
        if (is_copy(total)) {
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int g = 0; g < G; g++)
                    store_raw<U>((U*)out + (first + i) * tile_columns + delta_column<N>(g * N), packs[i][g], valid(i, g), copy_vectors);
            return;
        }
        U* originals = (U*)shared;
        uint16_t* places = (uint16_t*)(originals + total);
#pragma unroll
        for (int j = 0; j < 32; j++)
            if (differs >> j & 1) {
                originals[at] = reinterpret_cast<const U*>(&packs[j / 8][j % 8 / N])[j % N];
                places[at++] = (uint16_t)((first + j / 8) * DeltaColumns + delta_column<N>(j % 8));
            }
        __syncthreads();
        int units = (total * (int)(sizeof(U) + 2) + 15) / 16;
        for (int i = threadIdx.x; i < units; i += DeltaThreads) ((uint4*)out)[i] = ((const uint4*)shared)[i];
    }
}

template <typename T> __device__ void merge_apply(const MergeParams& p) { merge_tile<T, Apply>(p); }
template <typename T> __device__ void merge_exact(const MergeParams& p) { merge_tile<T, Exact>(p); }
template <typename T> __device__ void merge_undo(const MergeParams& p) { merge_tile<T, Undo>(p); }

// Two blocks a multiprocessor: W waits in registers, so three would spill.
#define MERGE_BOUNDS DeltaThreads, 2
ENGINE_KERNEL(merge_apply, MergeParams, MERGE_BOUNDS, merge_apply)
ENGINE_KERNEL(merge_exact, MergeParams, MERGE_BOUNDS, merge_exact)
ENGINE_KERNEL(merge_undo, MergeParams, MERGE_BOUNDS, merge_undo)

ENGINE_PARAMS(merge_pack, DeltaPackParams)
extern "C" __global__ void __launch_bounds__(256) merge_pack(const DeltaPackParams p) { delta_pack(p); }

// Moves the tiles' segments together.
struct MergeCompactParams {
    const unsigned char* from;  // capacity bytes a tile
    unsigned char* to;
    const long long* offsets;  // [tiles + 1], multiples of 16
    long long capacity;
};

ENGINE_PARAMS(merge_compact, MergeCompactParams)
extern "C" __global__ void __launch_bounds__(128) merge_compact(const MergeCompactParams p) {
    long long begin = p.offsets[blockIdx.x], units = (p.offsets[blockIdx.x + 1] - begin) / 16;
    const uint4* from = (const uint4*)(p.from + blockIdx.x * p.capacity);
    uint4* to = (uint4*)(p.to + begin);
    for (long long i = threadIdx.x; i < units; i += blockDim.x) to[i] = from[i];
}
