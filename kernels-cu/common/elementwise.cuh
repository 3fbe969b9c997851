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
