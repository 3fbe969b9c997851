// elementwise_add — y = a + b          elementwise_multiply — y = a·b       elementwise_scale — y = s·x
// elementwise_addscaled — y += s·x, x of any float dtype
// elementwise_addbias — y[r,c] = x[r,c] + b[c]      elementwise_scalecolumns — y[r,c] = x[r,c]·b[c], b of any float dtype
// Shapes: all without gaps, but rows of matrices may have some in elementwise_add, _multiply, _addbias, _scalecolumns and _biasgrad
// Dtypes: f32 | bf16 | f16, computed in f32.  Arch: sm_80+
// Bytes: every operand once.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: grid-stride loop over 16-byte packs
// Numerics: one rounding of each result.  Aliasing: y may be any input
//
// elementwise_biasgrad — partial[k,c] = Σ over the rows of chunk k of dy[r,c];  elementwise_biasgrad_sum — out[c] += Σ_k partial[k,c]
// Algorithm: a block owns 32 columns and one chunk of rows, its 8 warps take rows in turn; sums in row order a warp, warps in
// order, chunks in order: deterministic
#include "../common/column_sums.cuh"
#include "../common/elementwise.cuh"

struct ElementwiseParams {
    const void* a;
    const void* b;
    void* y;
    long long count;
    long long rows;  // elementwise_add and _multiply: 1 where nothing has gaps
    long long columns;
    long long a_stride, b_stride, y_stride;
    float s;
    int b_type;
    int vectors;
};

template <typename T> __device__ void add(const ElementwiseParams& p) {
    constexpr int N = Pack<T>::N;
    const T *a = (const T*)p.a, *b = (const T*)p.b;
    T* y = (T*)p.y;
    for_rows<N>(p.rows, p.columns, p.vectors,
                [&](long long r, long long c) {
                    y[r * p.y_stride + c] = from_float<T>(to_float(a[r * p.a_stride + c]) + to_float(b[r * p.b_stride + c]));
                },
                [&](long long r, long long c) {
                    float u[N], v[N];
                    Pack<T>::load(a + r * p.a_stride + c, u);
                    Pack<T>::load(b + r * p.b_stride + c, v);
#pragma unroll
                    for (int k = 0; k < N; k++) u[k] += v[k];
                    Pack<T>::store(y + r * p.y_stride + c, u);
                });
}

template <typename T> __device__ void multiply(const ElementwiseParams& p) {
    constexpr int N = Pack<T>::N;
    const T *a = (const T*)p.a, *b = (const T*)p.b;
    T* y = (T*)p.y;
    for_rows<N>(p.rows, p.columns, p.vectors,
                [&](long long r, long long c) {
                    y[r * p.y_stride + c] = from_float<T>(to_float(a[r * p.a_stride + c]) * to_float(b[r * p.b_stride + c]));
                },
                [&](long long r, long long c) {
                    float u[N], v[N];
                    Pack<T>::load(a + r * p.a_stride + c, u);
                    Pack<T>::load(b + r * p.b_stride + c, v);
#pragma unroll
                    for (int k = 0; k < N; k++) u[k] *= v[k];
                    Pack<T>::store(y + r * p.y_stride + c, u);
                });
}

template <typename T> __device__ void scale(const ElementwiseParams& p) {
    constexpr int N = Pack<T>::N;
    const T* a = (const T*)p.a;
    T* y = (T*)p.y;
    for_elements<N>(p.count, p.vectors, [&](long long i) { y[i] = from_float<T>(to_float(a[i]) * p.s); },
                    [&](long long i) {
                        float u[N];
                        Pack<T>::load(a + i, u);
#pragma unroll
                        for (int k = 0; k < N; k++) u[k] *= p.s;
                        Pack<T>::store(y + i, u);
                    });
}

template <typename T> __device__ void add_scaled(const ElementwiseParams& p) {
    constexpr int N = Pack<T>::N;
    T* y = (T*)p.y;
    for_elements<N>(p.count, p.vectors, [&](long long i) { y[i] = from_float<T>(fmaf(load_any(p.b, i, p.b_type), p.s, to_float(y[i]))); },
                    [&](long long i) {
                        float u[N], v[N];
                        Pack<T>::load(y + i, u);
                        load_any_pack(p.b, i, p.b_type, v);
#pragma unroll
                        for (int k = 0; k < N; k++) u[k] = fmaf(v[k], p.s, u[k]);
                        Pack<T>::store(y + i, u);
                    });
}

ENGINE_KERNEL(elementwise_add, ElementwiseParams, kElementThreads, add)
ENGINE_KERNEL(elementwise_multiply, ElementwiseParams, kElementThreads, multiply)
ENGINE_KERNEL(elementwise_scale, ElementwiseParams, kElementThreads, scale)
ENGINE_KERNEL(elementwise_addscaled, ElementwiseParams, kElementThreads, add_scaled)

struct ColumnsParams {
    const void* x;
    const void* b;
    void* y;
    long long x_stride, y_stride;
    long long rows;
    int columns;
    int b_type;
    int vectors;
};

// A block walks rows at a grid's distance; the column of a pack never crosses a row where vectors is set.
template <typename T, bool Multiply> __device__ void with_columns(const ColumnsParams& p) {
    constexpr int N = Pack<T>::N;
    for (long long r = blockIdx.x; r < p.rows; r += gridDim.x) {
        const T* x = (const T*)p.x + r * p.x_stride;
        T* y = (T*)p.y + r * p.y_stride;
        if (p.vectors) {
            for (int c = threadIdx.x * N; c < p.columns; c += blockDim.x * N) {
                float u[N], v[N];
                Pack<T>::load(x + c, u);
                load_any_pack(p.b, c, p.b_type, v);
#pragma unroll
                for (int k = 0; k < N; k++) u[k] = Multiply ? u[k] * v[k] : u[k] + v[k];
                Pack<T>::store(y + c, u);
            }
        } else {
            for (int c = threadIdx.x; c < p.columns; c += blockDim.x) {
                float u = to_float(x[c]), v = load_any(p.b, c, p.b_type);
                y[c] = from_float<T>(Multiply ? u * v : u + v);
            }
        }
    }
}

template <typename T> __device__ void add_bias(const ColumnsParams& p) { with_columns<T, false>(p); }
template <typename T> __device__ void scale_columns(const ColumnsParams& p) { with_columns<T, true>(p); }

ENGINE_KERNEL(elementwise_addbias, ColumnsParams, 512, add_bias)
ENGINE_KERNEL(elementwise_scalecolumns, ColumnsParams, 512, scale_columns)

struct BiasGradientParams {
    const void* dy;
    float* partial;
    long long stride;
    long long rows;
    long long chunk_rows;
    int columns;
};

template <typename T> __device__ void bias_gradient(const BiasGradientParams& p) {
    __shared__ float shared[8][33];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int c = blockIdx.x * 32 + lane;
    long long begin = blockIdx.y * p.chunk_rows, end = min(begin + p.chunk_rows, p.rows);
    float sum = 0;
    if (c < p.columns)
        for (long long r = begin + warp; r < end; r += 8) sum += to_float(((const T*)p.dy)[r * p.stride + c]);
    shared[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && c < p.columns) {
        float total = 0;
#pragma unroll
        for (int w = 0; w < 8; w++) total += shared[w][lane];
        p.partial[(long long)blockIdx.y * p.columns + c] = total;
    }
}

ENGINE_KERNEL(elementwise_biasgrad, BiasGradientParams, 256, bias_gradient)

ENGINE_SUM_PARTIALS(elementwise_biasgrad_sum)
