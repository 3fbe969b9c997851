// gelu_tanh_fwd — y = x·σ(w), w = 2·√(2/π)·(x + 0.044715·x³);  gelu_tanh_bwd — dx = dy·(σ(w) + x·σ(w)·(1 − σ(w))·w′)
// gelu_exact_fwd — y = x·Φ(x);  gelu_exact_bwd — dx = dy·(Φ(x) + x·φ(x))
// Shapes: [R,C], rows may have gaps between them.  Dtypes: f32 | bf16 | f16, computed in f32.  Arch: sm_80+
// Bytes: 2·n·e forward, 3·n·e backward.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: grid-stride loop over 16-byte packs.  Aliasing: y may be x; dx may be dy or x
#include "../common/activation.cuh"
#include "../common/elementwise.cuh"

struct GeluParams {
    const void* dy;
    const void* x;
    void* y;
    long long rows;  // 1 where nothing has gaps
    long long columns;
    long long dy_stride, x_stride, y_stride;
    int vectors;
};

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

template <typename T> __device__ void tanh_forward(const GeluParams& p) { forward<T, gelu_tanh>(p); }
template <typename T> __device__ void tanh_backward(const GeluParams& p) { backward<T, gelu_tanh_derivative>(p); }
template <typename T> __device__ void exact_forward(const GeluParams& p) { forward<T, gelu_exact>(p); }
template <typename T> __device__ void exact_backward(const GeluParams& p) { backward<T, gelu_exact_derivative>(p); }

ENGINE_KERNEL(gelu_tanh_fwd, GeluParams, kElementThreads, tanh_forward)
ENGINE_KERNEL(gelu_tanh_bwd, GeluParams, kElementThreads, tanh_backward)
ENGINE_KERNEL(gelu_exact_fwd, GeluParams, kElementThreads, exact_forward)
ENGINE_KERNEL(gelu_exact_bwd, GeluParams, kElementThreads, exact_backward)
