// silu_fwd — y = x·σ(x);  silu_bwd — dx = dy·σ(x)·(1 + x·(1 − σ(x)))
// Shapes: [R,C], rows may have gaps between them.  Dtypes: f32 | bf16 | f16, computed in f32.  Arch: sm_80+
// Bytes: 2·n·e forward, 3·n·e backward.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: grid-stride loop over 16-byte packs.  Aliasing: y may be x; dx may be dy or x
#include "../common/activation.cuh"
#include "../common/elementwise.cuh"

struct SiluParams {
    const void* dy;
    const void* x;
    void* y;
    long long rows;  // 1 where nothing has gaps
    long long columns;
    long long dy_stride, x_stride, y_stride;
    int vectors;
};

template <typename T> __device__ void silu_forward(const SiluParams& p) {
    constexpr int N = Pack<T>::N;
    const T* x = (const T*)p.x;
    T* y = (T*)p.y;
    for_rows<N>(p.rows, p.columns, p.vectors,
                [&](long long r, long long c) { y[r * p.y_stride + c] = from_float<T>(silu(to_float(x[r * p.x_stride + c]))); },
                [&](long long r, long long c) {
                    float u[N];
                    Pack<T>::load(x + r * p.x_stride + c, u);
#pragma unroll
                    for (int k = 0; k < N; k++) u[k] = silu(u[k]);
                    Pack<T>::store(y + r * p.y_stride + c, u);
                });
}

template <typename T> __device__ void silu_backward(const SiluParams& p) {
    constexpr int N = Pack<T>::N;
    const T *dy = (const T*)p.dy, *x = (const T*)p.x;
    T* dx = (T*)p.y;
    for_rows<N>(p.rows, p.columns, p.vectors,
                [&](long long r, long long c) {
                    dx[r * p.y_stride + c] = from_float<T>(to_float(dy[r * p.dy_stride + c]) * silu_derivative(to_float(x[r * p.x_stride + c])));
                },
                [&](long long r, long long c) {
                    float g[N], u[N];
                    Pack<T>::load(dy + r * p.dy_stride + c, g);
                    Pack<T>::load(x + r * p.x_stride + c, u);
#pragma unroll
                    for (int k = 0; k < N; k++) g[k] *= silu_derivative(u[k]);
                    Pack<T>::store(dx + r * p.y_stride + c, g);
                });
}

ENGINE_KERNEL(silu_fwd, SiluParams, kElementThreads, silu_forward)
ENGINE_KERNEL(silu_bwd, SiluParams, kElementThreads, silu_backward)
