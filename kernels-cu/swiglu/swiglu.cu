// swiglu_fwd — y = silu(g)·u;  swiglu_bwd — dg = dy·u·silu′(g), du = dy·silu(g)
// Shapes: [R,C], rows may have gaps between them.  Dtypes: f32 | bf16 | f16, computed in f32.  Arch: sm_80+
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
    long long rows;  // 1 where nothing has gaps
    long long columns;
    long long dy_stride, gate_stride, up_stride, y_stride, du_stride;
    int vectors;
};

template <typename T> __device__ void swiglu_forward(const SwiGluParams& p) {
    constexpr int N = Pack<T>::N;
    for_rows<N>(p.rows, p.columns, p.vectors,
                [&](long long r, long long c) {
                    float g = to_float(((const T*)p.gate)[r * p.gate_stride + c]), u = to_float(((const T*)p.up)[r * p.up_stride + c]);
                    ((T*)p.y)[r * p.y_stride + c] = from_float<T>(silu(g) * u);
                },
                [&](long long r, long long c) {
                    float a[N], b[N];
                    Pack<T>::load((const T*)p.gate + r * p.gate_stride + c, a);
                    Pack<T>::load((const T*)p.up + r * p.up_stride + c, b);
#pragma unroll
                    for (int k = 0; k < N; k++) a[k] = silu(a[k]) * b[k];
                    Pack<T>::store((T*)p.y + r * p.y_stride + c, a);
                });
}

template <typename T> __device__ void swiglu_backward(const SwiGluParams& p) {
    constexpr int N = Pack<T>::N;
    for_rows<N>(p.rows, p.columns, p.vectors,
                [&](long long r, long long c) {
                    float d = to_float(((const T*)p.dy)[r * p.dy_stride + c]), a = to_float(((const T*)p.gate)[r * p.gate_stride + c]);
                    float b = to_float(((const T*)p.up)[r * p.up_stride + c]);
                    ((T*)p.y)[r * p.y_stride + c] = from_float<T>(d * b * silu_derivative(a));
                    ((T*)p.du)[r * p.du_stride + c] = from_float<T>(d * silu(a));
                },
                [&](long long r, long long c) {
                    float d[N], a[N], b[N];
                    Pack<T>::load((const T*)p.dy + r * p.dy_stride + c, d);
                    Pack<T>::load((const T*)p.gate + r * p.gate_stride + c, a);
                    Pack<T>::load((const T*)p.up + r * p.up_stride + c, b);
#pragma unroll
                    for (int k = 0; k < N; k++) {
                        b[k] = d[k] * b[k] * silu_derivative(a[k]);
                        d[k] *= silu(a[k]);
                    }
                    Pack<T>::store((T*)p.y + r * p.y_stride + c, b);
                    Pack<T>::store((T*)p.du + r * p.du_stride + c, d);
                });
}

ENGINE_KERNEL(swiglu_fwd, SwiGluParams, kElementThreads, swiglu_forward)
ENGINE_KERNEL(swiglu_bwd, SwiGluParams, kElementThreads, swiglu_backward)
