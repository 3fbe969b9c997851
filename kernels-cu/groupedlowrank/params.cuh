// What the grouped low-rank kernels share: the table of adapters, the plan of rows, and the sums of split products.
#pragma once
#include "../common/mma.cuh"

constexpr int MostAdapters = 256, PlanHead = 4;

// One adapter of a linear; rank 0 where it has no layer there. A [rank, K] and B [N, rank] in the kernel's dtype. In a table of
// 16-bit copies the strides are multiples of 8, the rows begin at multiples of 16 bytes, and zeros fill them.
struct GroupedAdapter {
    const void* a;
    const void* b;
    int rank;
    int a_stride;
    int b_stride;
    float scale;
};

// Where an adapter's gradients go, f32 without gaps; null where none is wanted.
struct GroupedGradient {
    float* a;
    float* b;
};

// The rows of a batch by adapter, in device memory: {tiles, segments, 0, 0}, the batch's rows with an adapter in order of their
// adapters, then segments and tiles as int4. A row of the batch is `tokens` rows of activations, so position p of the order is
// activation row order[p / tokens]·tokens + p % tokens. Segments {adapter, first position, end, 0} are the adapters that occur;
// tiles {adapter, first position, count, 0} are segments cut into pieces; count 0 fills the list up to the grid that is launched.
struct RowPlan {
    const int* data;
    int batch;
    int tokens;
    int most_segments;

    __device__ __forceinline__ int segments() const { return data[1]; }
    __device__ __forceinline__ const int4* segment_list() const {
        return reinterpret_cast<const int4*>(data + PlanHead + (batch + 3) / 4 * 4);
    }
    __device__ __forceinline__ int4 segment(int i) const { return segment_list()[i]; }
    __device__ __forceinline__ int4 tile(int i) const { return segment_list()[most_segments + i]; }
    __device__ __forceinline__ int row(int position) const {
        return tokens == 1 ? data[PlanHead + position] : data[PlanHead + position / tokens] * tokens + position % tokens;
    }
};

// The table's entry; an index past the table counts as no adapter.
__device__ __forceinline__ GroupedAdapter adapter_of(const GroupedAdapter* table, int adapters, int index) {
    if (index < adapters) return table[index];
    return {nullptr, nullptr, 0, 0, 0, 0.0f};
}

// A product over a long dimension cut into splits, [splits][positions][stride] in f32: added in index order.
struct SplitSums {
    float* data;
    long long split_stride;
    int stride;  // the largest rank rounded up to 16
    int splits;

    __device__ __forceinline__ float sum(int position, int j) const {
        // From the L2 cache: another block of the same launch may have written them.
        const float* p = data + (long long)position * stride + j;
        float x = __ldcg(p);
#pragma unroll 8
        for (int k = 1; k < splits; k++) x += __ldcg(p + k * split_stride);
        return x;
    }
    __device__ __forceinline__ void store(int split, int position, int j, float x) const {
        data[split * split_stride + (long long)position * stride + j] = x;
    }
};
