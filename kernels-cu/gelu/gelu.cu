// gelu_tanh_fwd — y = x·σ(w), w = 2·√(2/π)·(x + 0.044715·x³);  gelu_tanh_bwd — dx = dy·(σ(w) + x·σ(w)·(1 − σ(w))·w′)
// gelu_exact_fwd — y = x·Φ(x);  gelu_exact_bwd — dx = dy·(Φ(x) + x·φ(x))
// Shapes: [R,C], rows may have gaps between them.  Dtypes: f32 | bf16 | f16, computed in f32.  Arch: sm_80+
// Bytes: 2·n·e forward, 3·n·e backward.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: grid-stride loop over 16-byte packs.  Aliasing: y may be x; dx may be dy or x
// Numerics: f32 by common/activation.cuh. The tanh form of 16-bit tensors by the hardware's 2ˣ and 1/x, relative errors 4u and 2u
//   with u = 2⁻²⁴. Forward, in parts of |x|: w is off by 4u of itself, |w|·σ(1 − σ) ≤ 0.224: 0.9u; 2ˣ: σ(1 − σ)·4u ≤ 1u; sum and
//   1/x 3u, product 1u: 6u, where half a bf16 ulp is 2¹⁵u. Backward: σ 6u; e·r² 12u, with x·w′ 5u more, of 3·0.224; from w 3·0.44·4u;
//   the sum 1u: 24u
// Versions: v1 expf and a full-precision division: 65% of copy forward for 134 MB of bf16 (H200, 2026-11-27), bound by
//   instructions; v2 the hardware's: 84% there
#include "../common/activation.cuh"
#include "../common/elementwise.cuh"
#include "../common/mma.cuh"

struct GeluParams {
    const void* dy;
    const void* x;
    void* y;
    long long rows;  // 1 where nothing has gaps
    long long columns;
    long long dy_stride, x_stride, y_stride;
    int vectors;
};

// 1/x with a relative error up to 2⁻²³; results below 2⁻¹²⁶ become 0.
__device__ __forceinline__ float reciprocal_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
}

// w·log₂e is x·(Linear + Cubic·x²).
constexpr float Linear = 1.5957691216057308 * 1.4426950408889634, Cubic = Linear * 0.044715;

template <typename T> __device__ __forceinline__ float tanh_form(float x) {
    if (sizeof(T) == 4) return gelu_tanh(x);
    return x * reciprocal_fast(1.0f + exp2_fast(x * fmaf(x * x, -Cubic, -Linear)));
}

// As gelu_tanh_derivative.
template <typename T> __device__ __forceinline__ float tanh_form_derivative(float x) {
    if (sizeof(T) == 4) return gelu_tanh_derivative(x);
    const float square = x * x, z = x * fmaf(square, Cubic, Linear), e = exp2_fast(-fabsf(z)), r = reciprocal_fast(1.0f + e);
    const float s = z < 0.0f ? e * r : r, t = e * r * r;
    return s + (t == 0.0f ? 0.0f : x * t * fmaf(square, 1.5957691216057308f * 0.134145f, 1.5957691216057308f));
}

template <typename T, float (*F)(float)> __device__ void forward(const GeluParams& p) {
    constexpr int N = Pack<T>::N;
    const T* x = (const T*)p.x;
    T* y = (T*)p.y;
    for_rows<N>(p.rows, p.columns, p.vectors,
                [&](long long r, long long c) { y[r * p.y_stride + c] = from_float<T>(F(to_float(x[r * p.x_stride + c]))); },
                [&](long long r, long long c) {
                    float u[N];
                    Pack<T>::load(x + r * p.x_stride + c, u);
#pragma unroll
                    for (int k = 0; k < N; k++) u[k] = F(u[k]);
                    Pack<T>::store(y + r * p.y_stride + c, u);
                });
}

template <typename T, float (*D)(float)> __device__ void backward(const GeluParams& p) {
    constexpr int N = Pack<T>::N;
    const T *dy = (const T*)p.dy, *x = (const T*)p.x;
    T* dx = (T*)p.y;
    for_rows<N>(p.rows, p.columns, p.vectors,
                [&](long long r, long long c) {
                    dx[r * p.y_stride + c] = from_float<T>(to_float(dy[r * p.dy_stride + c]) * D(to_float(x[r * p.x_stride + c])));
                },
                [&](long long r, long long c) {
                    float g[N], u[N];
                    Pack<T>::load(dy + r * p.dy_stride + c, g);
                    Pack<T>::load(x + r * p.x_stride + c, u);
#pragma unroll
                    for (int k = 0; k < N; k++) g[k] *= D(u[k]);
                    Pack<T>::store(dx + r * p.y_stride + c, g);
                });
}

template <typename T> __device__ void tanh_forward(const GeluParams& p) { forward<T, tanh_form<T>>(p); }
template <typename T> __device__ void tanh_backward(const GeluParams& p) { backward<T, tanh_form_derivative<T>>(p); }
template <typename T> __device__ void exact_forward(const GeluParams& p) { forward<T, gelu_exact>(p); }
template <typename T> __device__ void exact_backward(const GeluParams& p) { backward<T, gelu_exact_derivative>(p); }

ENGINE_KERNEL(gelu_tanh_fwd, GeluParams, kElementThreads, tanh_forward)
ENGINE_KERNEL(gelu_tanh_bwd, GeluParams, kElementThreads, tanh_backward)
ENGINE_KERNEL(gelu_exact_fwd, GeluParams, kElementThreads, exact_forward)
ENGINE_KERNEL(gelu_exact_bwd, GeluParams, kElementThreads, exact_backward)
