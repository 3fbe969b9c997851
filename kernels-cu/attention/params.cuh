// What the attention kernels are given. Tensors are [B, T, heads, D] with stride 1 in D.
#pragma once
#include "../common/types.cuh"

// Strides in elements.
struct HeadStrides {
    long long batch;
    long long row;
    long long head;
};

struct AttentionShape {
    int batch;
    int queries;
    int keys;
    int heads;
    int key_heads;
    int dimension;
    int query_offset;  // query i stands at key query_offset + i
    int vectors;       // nonzero: all pointers and strides allow 16-byte accesses, and so does the dimension
    float scale;
};

struct AttentionForwardParams {
    const void* q;
    const void* k;
    const void* v;
    void* o;
    float* lse;            // [B, heads, queries] or null
    const int* key_start;  // [B, queries]
    HeadStrides q_strides;
    HeadStrides k_strides;
    HeadStrides v_strides;
    HeadStrides o_strides;
    AttentionShape shape;
};

// All passes of the backward; the query offset is 0 and there are as many keys as queries. The warpgroup products' kernels turn
// dq and dk back by the angles of each token's position where there are some (see rope.cu).
struct AttentionBackwardParams {
    const void* d_o;
    const void* q;
    const void* k;
    const void* v;
    const void* o;
    const float* lse;
    float* delta;  // [B, heads, queries]: written by the first pass, read by the others
    const int* key_start;
    void* dq;
    void* dk;
    void* dv;
    const float* cos;      // [P, D/2] or null
    const float* sin;      // like cos
    const int* positions;  // [B, queries] or null
    HeadStrides do_strides;
    HeadStrides q_strides;
    HeadStrides k_strides;
    HeadStrides v_strides;
    HeadStrides o_strides;
    HeadStrides dq_strides;
    HeadStrides dk_strides;
    HeadStrides dv_strides;
    AttentionShape shape;
};

struct AttentionDecodeParams {
    const void* q;
    const void* k;
    const void* v;
    void* o;
    float* lse;            // [B, heads, queries] or null
    const int* key_start;  // [B, queries]
    const int* length;     // keys held, on the device; null: query_offset + queries
    float* sums;           // [B, heads, queries, splits, columns]: unnormalised outputs of the splits
    float* statistics;     // [B, heads, queries, splits, 2]: maximum and sum of the splits
    HeadStrides q_strides;
    HeadStrides k_strides;
    HeadStrides v_strides;
    HeadStrides o_strides;
    AttentionShape shape;
    int split_keys;
    int splits;
    int columns;  // the dimension rounded up to a multiple of 4
};

constexpr unsigned AllLanes = 0xffffffffu;
constexpr int MostInt = 0x7fffffff;

template <typename T> __device__ __forceinline__ T* at(T* p, const HeadStrides& s, int b, int row, int head) {
    return p + b * s.batch + row * s.row + head * s.head;
}

// A block's part of the grid: one tile of one head of one sequence, numbered with the tile outermost.
struct TileOfHead {
    int tile;
    int b;
    int head;

    __device__ __forceinline__ TileOfHead(int block, int batch, int heads) {
        int pairs = batch * heads;
        tile = block / pairs;
        int pair = block - tile * pairs;
        b = pair / heads;
        head = pair - b * heads;
    }
};

// A block's tile of queries of one head. The last ones see the most keys: their blocks come first.
template <int Rows> struct QueriesOfHead {
    int b;
    int head;
    int key_head;
    int first;
    int rows;

    __device__ __forceinline__ explicit QueriesOfHead(const AttentionShape& n) {
        TileOfHead place(blockIdx.x, n.batch, n.heads);
        first = ((n.queries - 1) / Rows - place.tile) * Rows, rows = min(Rows, n.queries - first);
        b = place.b, head = place.head, key_head = head / (n.heads / n.key_heads);
    }
};

// Keys that the queries [0, rows) of a tile see at most; all lanes of the warp call it. `starts` points at the tile's first.
__device__ __forceinline__ int first_key(const int* starts, int rows) {
    int first = MostInt;
    for (int i = threadIdx.x & 31; i < rows; i += 32) first = min(first, max(starts[i], 0));
    return __reduce_min_sync(AllLanes, first);
}

// From `tile` on the first tile of Count queries in which a query may see one of the keys first..last (queries stand at
// the key of their own number, tile >= first), or `queries`; `all` tells whether each of its queries sees each key.
template <int Count>
__device__ __forceinline__ int next_queries(const int* starts, int tile, int queries, int first, int last, bool& all) {
    for (; tile < queries; tile += Count) {
        int low = MostInt, high = 0;
        for (int i = threadIdx.x & 31; i < Count; i += 32) {
            if (tile + i < queries) {
                int start = starts[tile + i];
                low = min(low, start);
                high = max(high, start);
            }
        }
        low = __reduce_min_sync(AllLanes, low);
        high = __reduce_max_sync(AllLanes, high);
        if (low <= last) {
            all = high <= first && last <= tile;
            return tile;
        }
    }
    return queries;
}
