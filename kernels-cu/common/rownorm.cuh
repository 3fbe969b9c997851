// What RMSNorm and LayerNorm (rownorm_fwd.cuh, rownorm_bwd.cuh) share: how rows are shared out among threads, packs in registers,
// sums over a row.
//
// Rows that can be read 16 bytes at a time stay in registers. Each of a row's threads (row_threads of them) keeps 4 packs,
// whose loads are all on their way before the first is used: with few registers that is what fills the memory's pipes.
// Narrow rows have 1 to 16 threads, a power of two, and share a warp; wide rows have whole warps, one or, with the block to
// themselves, several. Sums over lanes take shuffles, over warps one barrier. How a row is shared out depends on its length
// and alignment alone, and so its result does not depend on the other rows. All else (row_threads is 0) is walked element by
// element, one block a row.
//
// Products and sums that could be rounded once or twice are written as the one or the other, so that the bits do not depend
// on what the compiler makes of a kernel.
//
// Measured in training steps (bf16, H100, 2026-11-27): dx 94% of copy at 8192×1024 and 98% at 8192×2048, a sum and its norm 93 and
// 97%; a block a row had 43% for dx and 38% for the norm (H200).
#pragma once
#include "types.cuh"

constexpr int kRowWarps = 16;  // at most, 10 for 16-bit rows
constexpr int kRowPacks = 4;

// Entry points as ENGINE_KERNEL makes them. What bounds speed is bytes on their way, so registers: rows of f32 take few, and
// 16-bit ones as many as two blocks of `threads` have: 80 for 384 and 96 for 320, which leave room for 24 or 20 warps.
#define ENGINE_ROW_KERNEL(name, Params, threads, body)                                                        \
    ENGINE_PARAMS(name, Params)                                                                               \
    extern "C" __global__ void __launch_bounds__(32 * kRowWarps) name##_f32(const Params p) { body<float>(p); } \
    extern "C" __global__ void __launch_bounds__(threads, 2) name##_bf16(const Params p) { body<bf16>(p); }   \
    extern "C" __global__ void __launch_bounds__(threads, 2) name##_f16(const Params p) { body<f16>(p); }

// The two elements of a word, the first in its lower half. With Pack<T> the compiler would keep each half in a register.
template <typename T> __device__ __forceinline__ float2 unpack(uint32_t word);
template <> __device__ __forceinline__ float2 unpack<bf16>(uint32_t word) {
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
}
template <> __device__ __forceinline__ float2 unpack<f16>(uint32_t word) { return __half22float2(*reinterpret_cast<const __half2*>(&word)); }

// Rounds like from_float<T>.
template <typename T> __device__ __forceinline__ uint32_t pack(float low, float high);
template <> __device__ __forceinline__ uint32_t pack<bf16>(float low, float high) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&both);
}
template <> __device__ __forceinline__ uint32_t pack<f16>(float low, float high) {
    const __half2 both = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&both);
}

// A thread's place among rows in registers: its row and its packs, the first of them and how far apart they are.
template <bool Wide> struct RowPlace {
    long long row;
    int first, threads;

    __device__ __forceinline__ RowPlace(int row_threads) : threads(row_threads) {
        if (Wide) {
            const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
            const bool alone = row_threads > 32;
            row = alone ? blockIdx.x : (long long)blockIdx.x * (blockDim.x >> 5) + warp;
            first = (alone ? warp * 32 * kRowPacks : 0) + lane;
        } else {
            const int shift = 31 - __clz(row_threads);
            row = (long long)blockIdx.x * (blockDim.x >> shift) + (threadIdx.x >> shift);
            first = threadIdx.x & (row_threads - 1);
        }
    }

    __device__ __forceinline__ int step() const { return Wide ? 32 : threads; }
    __device__ __forceinline__ bool has(int k, int packs) const { return first + k * step() < packs; }
};

// Packs as they lie in memory.
template <typename T> struct RowPacks {
    static constexpr int N = Pack<T>::N;
    uint4 raw[kRowPacks];

    // Of a row with this many packs; zeros past its end.
    template <bool Wide> __device__ __forceinline__ void load(const T* row, const RowPlace<Wide>& place, int packs) {
        const uint4* p = (const uint4*)row + place.first;
#pragma unroll
        for (int k = 0; k < kRowPacks; k++) {
            raw[k] = make_uint4(0, 0, 0, 0);
            if (place.has(k, packs)) raw[k] = p[k * place.step()];
        }
    }

    template <bool Wide> __device__ __forceinline__ void store(T* row, const RowPlace<Wide>& place, int packs) const {
        uint4* p = (uint4*)row + place.first;
#pragma unroll
        for (int k = 0; k < kRowPacks; k++)
            if (place.has(k, packs)) p[k * place.step()] = raw[k];
    }

    // Hides from the compiler that these have been converted before: it would keep the floats instead, twice the registers.
    __device__ __forceinline__ void forget() {
#pragma unroll
        for (int k = 0; k < kRowPacks; k++) asm volatile("" : "+r"(raw[k].x), "+r"(raw[k].y), "+r"(raw[k].z), "+r"(raw[k].w));
    }

    __device__ __forceinline__ void get(int k, float (&x)[N]) const {
        const uint32_t words[4] = {raw[k].x, raw[k].y, raw[k].z, raw[k].w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if constexpr (N == 4) {
                x[i] = __uint_as_float(words[i]);
            } else {
                const float2 both = unpack<T>(words[i]);
                x[2 * i] = both.x, x[2 * i + 1] = both.y;
            }
        }
    }

    __device__ __forceinline__ void set(int k, const float (&x)[N]) {
        uint32_t words[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if constexpr (N == 4) words[i] = __float_as_uint(x[i]);
            else words[i] = pack<T>(x[2 * i], x[2 * i + 1]);
        }
        raw[k] = make_uint4(words[0], words[1], words[2], words[3]);
    }
};

// Sums of a pack's terms, with few additions in sequence.
template <int N> __device__ __forceinline__ float pack_sum(const float (&x)[N]) {
    float even = x[0], odd = x[1];
#pragma unroll
    for (int i = 2; i < N; i += 2) even += x[i], odd += x[i + 1];
    return even + odd;
}

template <int N> __device__ __forceinline__ float pack_dot(const float (&x)[N], const float (&y)[N]) {
    float even = __fmul_rn(x[0], y[0]), odd = __fmul_rn(x[1], y[1]);
#pragma unroll
    for (int i = 2; i < N; i += 2) even = fmaf(x[i], y[i], even), odd = fmaf(x[i + 1], y[i + 1], odd);
    return even + odd;
}

// Sums over a row's threads, for each of them; `shared` is these sums' own. All threads of the block call it.
template <bool Wide, int K> __device__ __forceinline__ void row_sums(float (&x)[K], int threads, float (&shared)[K][kRowWarps]) {
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) {
        if (!Wide && d >= threads) continue;
#pragma unroll
        for (int i = 0; i < K; i++) x[i] += __shfl_xor_sync(0xffffffffu, x[i], d);
    }
    if (!Wide || threads == 32) return;
    const int lane = threadIdx.x & 31, slot = lane & (kRowWarps - 1);
    if (lane == 0) {
#pragma unroll
        for (int i = 0; i < K; i++) shared[i][threadIdx.x >> 5] = x[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < K; i++) x[i] = slot < threads >> 5 ? shared[i][slot] : 0.0f;
#pragma unroll
    for (int d = kRowWarps / 2; d > 0; d >>= 1) {
#pragma unroll
        for (int i = 0; i < K; i++) x[i] += __shfl_xor_sync(0xffffffffu, x[i], d);
    }
}
