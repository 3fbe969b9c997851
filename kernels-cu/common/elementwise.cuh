// The loop of element-wise kernels: each thread takes 16-byte packs at a distance of the whole grid;
// elements outside whole packs, or all of them where an address is not a multiple of 16 bytes, go one by one.
#pragma once
#include "types.cuh"

constexpr int kElementThreads = 256;

// f(i) handles element i alone, fn(i) the N elements from i on.
template <int N, typename One, typename Many>
__device__ __forceinline__ void for_elements(long long count, bool vectors, One one, Many many) {
    long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long threads = (long long)gridDim.x * blockDim.x;
    long long packs = vectors ? count / N : 0;
    for (long long k = thread; k < packs; k += threads) many(k * N);
    for (long long i = packs * N + thread; i < count; i += threads) one(i);
}

// The same over rows with gaps between them: f(r, c) and fn(r, c). What has no gaps is one row. With `vectors` the columns are
// whole packs, or there is one row.
template <int N, typename One, typename Many>
__device__ __forceinline__ void for_rows(long long rows, long long columns, bool vectors, One one, Many many) {
    long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long threads = (long long)gridDim.x * blockDim.x;
    if (rows == 1) {
        for_elements<N>(columns, vectors, [&](long long c) { one(0, c); }, [&](long long c) { many(0, c); });
        return;
    }
    // One division a thread; then rows and columns advance by those of the whole grid.
    long long units = vectors ? columns / N : columns;
    long long r = thread / units, c = thread % units, down = threads / units, right = threads % units;
    while (r < rows) {
        if (vectors) many(r, c * N);
        else one(r, c);
        r += down;
        c += right;
        if (c >= units) c -= units, r++;
    }
}
