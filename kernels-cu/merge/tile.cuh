// What the passes of merge share: the table of matrices, and a tile's way back to memory.
#pragma once
#include "../common/delta.cuh"

// Laid out as in MergeTable.
struct MergeMatrix {
    void* w;
    DeltaFactors factors;
    long long stride;
    int rows;
    int columns;
    int tiles_across;
    int first_tile;  // in the numbering of all matrices' tiles
    int type;
    int vectors;  // nonzero: pointer and stride allow 16-byte accesses
};

static_assert(sizeof(MergeMatrix) == 80 && sizeof(DeltaPackParams) == 88, "as in MergeTable");

struct MergeTable {
    const MergeMatrix* matrices;  // null: `only` is the one there is
    long long count;
    MergeMatrix only;
};

__device__ __forceinline__ int first_of(const MergeMatrix& m) { return m.first_tile; }
__device__ __forceinline__ int first_of(const DeltaPackParams& p) { return p.first_block; }

// The entry that a block belongs to: the last one that begins at it or before. Entries ascend; all threads look together, so
// that hundreds of layers take two or three steps instead of a search's chain of loads.
template <typename E> __device__ __forceinline__ const E* entry_of(const E* entries, long long count, int block) {
    long long before = 0;
    for (long long i = 0; i < count; i += DeltaThreads) {
        int found = __syncthreads_count(i + threadIdx.x < count && first_of(entries[i + threadIdx.x]) <= block);
        before += found;
        if (found < DeltaThreads) break;
    }
    return entries + before - 1;
}

// A tile's matrix, in shared memory: few of its numbers are needed at any time, and registers are scarce.
__device__ __forceinline__ const MergeMatrix& matrix_of(const MergeTable& table, int tile) {
    __shared__ MergeMatrix found;
    if (table.matrices) {
        const uint32_t* from = (const uint32_t*)entry_of(table.matrices, table.count, tile);
        if (threadIdx.x < sizeof(MergeMatrix) / 4) ((uint32_t*)&found)[threadIdx.x] = from[threadIdx.x];
    } else if (threadIdx.x == 0) {
        found = table.only;
    }
    __syncthreads();
    return found;
}

template <typename T> __device__ __forceinline__ DeltaTile<T> tile_of(const MergeMatrix& m, int tile) {
    return DeltaTile<T>(m.w, m.stride, m.rows, m.columns, m.tiles_across, tile - m.first_tile, m.vectors);
}

// A lane's 16 bytes of a row as four words. Of 2-byte elements word c has numbers 2·c and 2·c + 1.
struct Words {
    uint32_t w[4];
};

__device__ __forceinline__ Words words_of(uint4 v) { return {v.x, v.y, v.z, v.w}; }

// The thread's pieces from `first` on to memory. W passes through once and need not stay in the caches. Pieces that are not
// aligned go through the thread's slots, where they can be taken apart.
template <typename T, int Count>
__device__ __forceinline__ void store_pieces(const DeltaTile<T>& t, const Words (&words)[Count], int first, uint4* pieces) {
    using D = DeltaTile<T>;
    if (t.fast) {
#pragma unroll
        for (int i = 0; i < Count; i++)
            if (t.valid(first + i) > 0)
                __stcs(reinterpret_cast<uint4*>(t.at(first + i)),
                       make_uint4(words[i].w[0], words[i].w[1], words[i].w[2], words[i].w[3]));
        return;
    }
    // The slots are read and written as different types: the compiler must not exchange the accesses.
    uint4* own = D::slots(pieces) + first * DeltaThreads;
    asm volatile("" ::: "memory");
#pragma unroll
    for (int i = 0; i < Count; i++) own[i * DeltaThreads] = make_uint4(words[i].w[0], words[i].w[1], words[i].w[2], words[i].w[3]);
    asm volatile("" ::: "memory");
#pragma unroll 1
    for (int i = 0; i < Count; i++) {
        int count = min(t.valid(first + i), D::N);
        const typename D::U* from = (const typename D::U*)(own + i * DeltaThreads);
        typename D::U* to = t.at(first + i);
#pragma unroll 1
        for (int n = 0; n < count; n++) to[n] = from[n];
    }
}

// W + Δ of the thread's pieces from `first` on, to memory; `tile` gives the DeltaTile, which takes registers, at the end.
template <typename T, typename Tile, int Count>
__device__ __forceinline__ void add_delta(
    const Tile& tile, const float (&delta)[Count][DeltaTile<T>::N], int first, uint4* pieces) {
    using W = Word<T>;
    constexpr int H = W::H;
    const uint4* own = DeltaTile<T>::slots(pieces) + first * DeltaThreads;
    Words results[Count];
#pragma unroll
    for (int i = 0; i < Count; i++) {
        const Words words = words_of(own[i * DeltaThreads]);
#pragma unroll
        for (int c = 0; c < 4; c++) {
            float x[H];
            W::split(words.w[c], x);
#pragma unroll
            for (int h = 0; h < H; h++) x[h] = __fadd_rn(x[h], delta[i][c * H + h]);
            results[i].w[c] = W::join(x);
        }
    }
    store_pieces<T>(tile(), results, first, pieces);
}
