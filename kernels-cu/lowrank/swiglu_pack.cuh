// SwiGLU of eight neighbours in registers, with the bits of swiglu_fwd and swiglu_bwd.
#pragma once
#include "params.cuh"

// 1/x as the division rounds it, for normal x below 2^126: the division looks at each x for itself, and its branches keep the
// elements of a pack from being formed side by side.
__device__ __forceinline__ float reciprocal(float x) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;\n" : "=f"(r) : "f"(x));
    return fmaf(r, -fmaf(x, r, -1.0f), r);
}

// σ of eight neighbours.
template <typename T> __device__ __forceinline__ void sigmoid_pack(const uint32_t (&x)[4], float (&sigma)[8]) {
    constexpr uint32_t Limit = 0x7e800000;  // 2^126; infinity and NaN lie above
    bool fast = true;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        float2 g = unpack2<T>(x[k]);
        sigma[2 * k] = 1.0f + expf(-g.x), sigma[2 * k + 1] = 1.0f + expf(-g.y);
        fast = fast && __float_as_uint(sigma[2 * k]) < Limit && __float_as_uint(sigma[2 * k + 1]) < Limit;
    }
    if (fast) {
#pragma unroll
        for (int k = 0; k < 8; k++) sigma[k] = reciprocal(sigma[k]);
    } else {
#pragma unroll
        for (int k = 0; k < 8; k++) sigma[k] = 1.0f / sigma[k];
    }
}

// y = silu(gate)·up
template <typename T> __device__ __forceinline__ void swiglu_pack(const uint4& gate, const uint4& up, uint32_t (&y)[4]) {
    uint32_t gates[4] = {gate.x, gate.y, gate.z, gate.w}, ups[4] = {up.x, up.y, up.z, up.w};
    float sigma[8];
    sigmoid_pack<T>(gates, sigma);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        float2 g = unpack2<T>(gates[k]), u = unpack2<T>(ups[k]);
        y[k] = pack2<T>(g.x * sigma[2 * k] * u.x, g.y * sigma[2 * k + 1] * u.y);
    }
}
