// cacheappend_run — cache[b, position + t, h, :] = entries[b, t, h, :]; slots outside the cache are left out
// Shapes: entries [B,T,H,D], cache [B,capacity,H,D], strides free but that of D; position I32 [1] on the device
// Dtypes: f32 | bf16 | f16, a copy.  Arch: sm_80+
// Bytes: 2·B·T·H·D·e.  Bound: memory (launch latency when T is 1), target >= 85% of copy bandwidth
// Algorithm: one thread for 16 bytes, or for one element where alignment forbids it
// Numerics: exact.  Aliasing: none
#include "../common/types.cuh"

struct CacheAppendParams {
    const void* entries;
    void* cache;
    const int* position;
    long long entries_batch, entries_row, entries_head;  // strides in elements
    long long cache_batch, cache_row, cache_head;
    long long items;  // pieces in all
    int rows;
    int heads;
    int pieces;  // 16-byte pieces of a head's row, or its elements
    int capacity;
    int vectors;  // nonzero: pieces of 16 bytes
};

template <typename T> __device__ __forceinline__ void cache_append(const CacheAppendParams& p) {
    long long item = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= p.items) return;
    long long rest = item / p.pieces;
    int piece = (int)(item - rest * p.pieces);
    long long position = rest / p.heads;
    int head = (int)(rest - position * p.heads);
    long long b = position / p.rows;
    int row = (int)(position - b * p.rows);
    long long slot = (long long)p.position[0] + row;
    if (slot < 0 || slot >= p.capacity) return;
    const T* from = (const T*)p.entries + b * p.entries_batch + row * p.entries_row + head * p.entries_head;
    T* to = (T*)p.cache + b * p.cache_batch + slot * p.cache_row + head * p.cache_head;
    if (p.vectors) ((uint4*)to)[piece] = ((const uint4*)from)[piece];
    else to[piece] = from[piece];
}

ENGINE_KERNEL(cacheappend_run, CacheAppendParams, 256, cache_append)
