// Sums and maxima over a warp and over a block, in an order that depends on the block's size alone: deterministic.
#pragma once
#include <stdint.h>

// Every lane gets the sum. The butterfly adds pairs at distance 16, 8, 4, 2, 1.
template <typename A> __device__ __forceinline__ A warp_sum(A x) {
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) x += __shfl_xor_sync(0xffffffffu, x, d);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, d));
    return x;
}

// Every thread gets the block's sum; shared has room for 33 values. All threads of the block call it, and the block is a
// multiple of 32 threads. The shared buffer may be used again at once: it is synchronised at entry.
template <typename A> __device__ __forceinline__ A block_sum(A x, A* shared) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    x = warp_sum(x);
    if (warps == 1) return x;
    __syncthreads();
    if (lane == 0) shared[warp] = x;
    __syncthreads();
    if (warp == 0) {
        A y = lane < warps ? shared[lane] : A(0);
        y = warp_sum(y);
        if (lane == 0) shared[32] = y;
    }
    __syncthreads();
    return shared[32];
}

__device__ __forceinline__ float block_max(float x, float* shared) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    x = warp_max(x);
    if (warps == 1) return x;
    __syncthreads();
    if (lane == 0) shared[warp] = x;
    __syncthreads();
    if (warp == 0) {
        float y = lane < warps ? shared[lane] : shared[0];
        y = warp_max(y);
        if (lane == 0) shared[32] = y;
    }
    __syncthreads();
    return shared[32];
}
