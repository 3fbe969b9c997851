// Many tensors in one launch: a table of them in device memory, and their elements cut into chunks of one size, a block each.
// Laid out as in Engine.Kernels.TensorTable.
#pragma once
#include "types.cuh"

constexpr int ChunkElements = 4096;

struct TensorEntry {
    void* data;
    long long elements;
    int type;
    int vectors;  // nonzero: data is a multiple of 16 bytes
};

struct ChunkEntry {
    int tensor;
    int index;  // within the tensor
};

static_assert(sizeof(TensorEntry) == 24 && sizeof(ChunkEntry) == 8, "as in TensorTable");
