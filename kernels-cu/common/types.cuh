// Storage types and how kernels read and write them: everything computes in f32.
//
// T is float, bf16 or f16. Pack<T> moves 16 bytes at once (4 or 8 elements); a kernel uses it where pointers and row
// strides are multiples of 16 bytes and falls back to single elements elsewhere (see aligned16).
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

using bf16 = __nv_bfloat16;
using f16 = __half;

// Numbers of Engine.Tensors.DType, for operands whose type is known at run time only.
enum DTypeCode : int { F32 = 0, F64 = 1, BF16 = 2, F16 = 3, I32 = 4, I64 = 5, U8 = 6 };

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(f16 x) { return __half2float(x); }

// Rounds to nearest, ties to even; overflow becomes infinity, NaN stays NaN.
template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ __forceinline__ f16 from_float<f16>(float x) { return __float2half_rn(x); }

// One element of a vector whose type is a run-time code; the branch is the same for the whole grid.
__device__ __forceinline__ float load_any(const void* p, long long i, int code) {
    if (code == F32) return ((const float*)p)[i];
    if (code == BF16) return __bfloat162float(((const bf16*)p)[i]);
    return __half2float(((const f16*)p)[i]);
}

__device__ __forceinline__ void store_any(void* p, long long i, int code, float x) {
    if (code == F32) ((float*)p)[i] = x;
    else if (code == BF16) ((bf16*)p)[i] = __float2bfloat16_rn(x);
    else ((f16*)p)[i] = __float2half_rn(x);
}

template <typename T> struct Pack {
    static constexpr int N = 16 / sizeof(T);

    // p is a multiple of 16 bytes.
    static __device__ __forceinline__ void load(const T* p, float (&x)[N]) {
        uint4 raw = *reinterpret_cast<const uint4*>(p);
        const T* e = reinterpret_cast<const T*>(&raw);
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = to_float(e[i]);
    }

    static __device__ __forceinline__ void store(T* p, const float (&x)[N]) {
        uint4 raw;
        T* e = reinterpret_cast<T*>(&raw);
#pragma unroll
        for (int i = 0; i < N; i++) e[i] = from_float<T>(x[i]);
        *reinterpret_cast<uint4*>(p) = raw;
    }
};

// N neighbours of a vector whose type is a run-time code; element i of p is a multiple of 16 bytes (8 for two-byte types and
// N = 4).
template <int N> __device__ __forceinline__ void load_any_pack(const void* p, long long i, int code, float (&x)[N]) {
    static_assert(N == 4 || N == 8, "a pack of 4- or 2-byte elements");
    if (code == F32) {
#pragma unroll
        for (int k = 0; k < N; k += 4) {
            float4 v = *reinterpret_cast<const float4*>((const float*)p + i + k);
            x[k] = v.x, x[k + 1] = v.y, x[k + 2] = v.z, x[k + 3] = v.w;
        }
        return;
    }
    uint32_t raw[N / 2];
    if constexpr (N == 8) *reinterpret_cast<uint4*>(raw) = *reinterpret_cast<const uint4*>((const uint16_t*)p + i);
    else *reinterpret_cast<uint2*>(raw) = *reinterpret_cast<const uint2*>((const uint16_t*)p + i);
#pragma unroll
    for (int k = 0; k < N; k++) {
        uint16_t bits = (uint16_t)(raw[k / 2] >> (16 * (k & 1)));
        x[k] = code == BF16 ? __uint_as_float((uint32_t)bits << 16) : __half2float(__ushort_as_half(bits));
    }
}

__host__ __device__ __forceinline__ bool aligned16(const void* p) { return (reinterpret_cast<uintptr_t>(p) & 15) == 0; }

// The size of a kernel's parameter struct, which the launcher compares with its own.
#define ENGINE_PARAMS(name, Params) extern "C" __device__ unsigned int name##_params; \
    __device__ unsigned int name##_params = sizeof(Params);

// Entry points <name>_f32, <name>_bf16 and <name>_f16 of a device function template <T>(const Params&).
#define ENGINE_KERNEL(name, Params, threads, body)                                                         \
    ENGINE_PARAMS(name, Params)                                                                            \
    extern "C" __global__ void __launch_bounds__(threads) name##_f32(const Params p) { body<float>(p); }   \
    extern "C" __global__ void __launch_bounds__(threads) name##_bf16(const Params p) { body<bf16>(p); }   \
    extern "C" __global__ void __launch_bounds__(threads) name##_f16(const Params p) { body<f16>(p); }
