// swiglu_fwd — y = silu(g)·u;  swiglu_bwd — dg = dy·u·silu′(g), du = dy·silu(g)
// Shapes: any, without gaps.  Dtypes: f32 | bf16 | f16, computed in f32.  Arch: sm_80+
// Bytes: 3·n·e forward, 5·n·e backward.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: grid-stride loop over 16-byte packs.  Aliasing: y, dg and du may be inputs; dg is not du
#include "../common/activation.cuh"
#include "../common/elementwise.cuh"

struct SwiGluParams {
    const void* dy;
    const void* gate;
    const void* up;
    void* y;   // forward: y; backward: dGate
    void* du;  // backward: dUp
    long long count;
    int vectors;
};

template <typename T> __device__ void swiglu_forward(const SwiGluParams& p) {
    constexpr int N = Pack<T>::N;
    const T *g = (const T*)p.gate, *u = (const T*)p.up;
    T* y = (T*)p.y;
    for_elements<N>(p.count, p.vectors, [&](long long i) { y[i] = from_float<T>(silu(to_float(g[i])) * to_float(u[i])); },
                    [&](long long i) {
                        float a[N], b[N];
                        Pack<T>::load(g + i, a);
                        Pack<T>::load(u + i, b);
#pragma unroll
                        for (int k = 0; k < N; k++) a[k] = silu(a[k]) * b[k];
                        Pack<T>::store(y + i, a);
                    });
}

template <typename T> __device__ void swiglu_backward(const SwiGluParams& p) {
    constexpr int N = Pack<T>::N;
    const T *dy = (const T*)p.dy, *g = (const T*)p.gate, *u = (const T*)p.up;
    T *dg = (T*)p.y, *du = (T*)p.du;
    for_elements<N>(p.count, p.vectors,
                    [&](long long i) {
                        float d = to_float(dy[i]), a = to_float(g[i]), b = to_float(u[i]);
                        dg[i] = from_float<T>(d * b * silu_derivative(a));
                        du[i] = from_float<T>(d * silu(a));
                    },
                    [&](long long i) {
                        float d[N], a[N], b[N];
                        Pack<T>::load(dy + i, d);
                        Pack<T>::load(g + i, a);
                        Pack<T>::load(u + i, b);
#pragma unroll
                        for (int k = 0; k < N; k++) {
                            b[k] = d[k] * b[k] * silu_derivative(a[k]);
                            d[k] *= silu(a[k]);
                        }
                        Pack<T>::store(dg + i, b);
                        Pack<T>::store(du + i, d);
                    });
}

ENGINE_KERNEL(swiglu_fwd, SwiGluParams, kElementThreads, swiglu_forward)
ENGINE_KERNEL(swiglu_bwd, SwiGluParams, kElementThreads, swiglu_backward)
