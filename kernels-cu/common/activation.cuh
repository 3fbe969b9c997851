// The activations and their derivatives in f32, as derived in src/Kernels/{Gelu,Silu,SwiGlu}.
#pragma once

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ float silu(float x) { return x * sigmoid(x); }

__device__ __forceinline__ float silu_derivative(float x) {
    float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

// x·σ(w) with w = 2·√(2/π)·(x + 0.044715·x³)
__device__ __forceinline__ float gelu_tanh(float x) {
    float w = 1.5957691216057308f * (x + 0.044715f * x * x * x);
    return x * sigmoid(w);
}

__device__ __forceinline__ float gelu_tanh_derivative(float x) {
    float w = 1.5957691216057308f * (x + 0.044715f * x * x * x);
    float dw = 1.5957691216057308f * (1.0f + 0.134145f * x * x);
    // σ and 1 − σ from the smaller one: the difference from a rounded σ would lose up to |x·w'| roundings.
    float e = expf(-fabsf(w)), r = 1.0f / (1.0f + e);
    float s = w < 0.0f ? e * r : r;
    // σ·(1 − σ) is 0 where σ has saturated, and w' may be infinite there.
    float t = e * r * r;
    return s + (t == 0.0f ? 0.0f : x * t * dw);
}

__device__ __forceinline__ float gelu_exact(float x) { return x * normcdff(x); }

__device__ __forceinline__ float gelu_exact_derivative(float x) {
    return normcdff(x) + x * 0.3989422804014327f * expf(-0.5f * x * x);
}
