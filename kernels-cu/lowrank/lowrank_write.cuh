// lowrank_write — copies the trained A and B of all linears, converted, into the borders of the frozen weights
// Shapes: a table of matrices [rows, columns] without gaps, each with the place of its copy: any strides
// Bytes: 4 + e an element.  Bound: memory.  Algorithm: a block a chunk of 4096 elements
#pragma once
#include "../common/multitensor.cuh"

struct LowRankWriteEntry {
    const void* from;
    void* to;
    long long elements;
    long long row_stride;     // of the copy
    long long column_stride;
    int columns;
    int type;
};

struct LowRankWriteParams {
    const LowRankWriteEntry* entries;
    const ChunkEntry* chunks;
};

template <typename T> __device__ __forceinline__ void lowrank_write(const LowRankWriteParams& p) {
    ChunkEntry chunk = p.chunks[blockIdx.x];
    LowRankWriteEntry entry = p.entries[chunk.tensor];
    long long begin = (long long)chunk.index * ChunkElements, end = min(begin + ChunkElements, entry.elements);
    T* to = (T*)entry.to;
    for (long long e = begin + threadIdx.x; e < end; e += blockDim.x) {
        long long row = e / entry.columns, column = e % entry.columns;
        to[row * entry.row_stride + column * entry.column_stride] = from_float<T>(load_any(entry.from, e, entry.type));
    }
}
