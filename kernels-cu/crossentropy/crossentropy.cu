// crossentropy_fwd — losses[r] = log Σⱼ exp(x[r,j]) − x[r,label]; dx[r,j] = (softmax(x[r])[j] − [j = label])·scale
// Shapes: x, dx [R,V] with row strides; labels I32 [R]; losses [R] f32; scale by value or f32 [1].  Any alignment
// Dtypes: x and dx each f32 | bf16 | f16; computes in f32.  Arch: sm_80+
// Bytes: R·V·(2·e + e') with a gradient (the row is read twice), R·V·e without.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: one block a row.  Pass 1 takes maximum and sum in one read: each thread scales what it has summed when its
//   maximum rises (Milakov and Gimelshein, 2018, arXiv:1805.02867), then the block joins them.  Pass 2 reads the row again and
//   writes the gradient.  16-byte accesses from the first aligned element on, single ones before and after
// Numerics: fixed reduction order, deterministic.  A label of −100 gives loss 0 and a gradient of zeros; any other label outside
//   0 … V − 1 gives NaN in both.  Aliasing: dx may be x
#include "../common/reduce.cuh"
#include "../common/types.cuh"

constexpr int IgnoredLabel = -100;

struct CrossEntropyParams {
    const void* x;
    const int* labels;
    float* losses;
    void* dx;                 // null: losses alone
    const float* grad_scale;  // null: take scale
    long long x_stride;
    long long dx_stride;
    int columns;
    int dx_type;
    float scale;
};

// Elements before the first one at a multiple of 16 bytes.
template <typename T> __device__ __forceinline__ int unaligned_head(const T* p, int columns) {
    int head = (int)((16 - (reinterpret_cast<uintptr_t>(p) & 15)) & 15) / (int)sizeof(T);
    return min(head, columns);
}

// A running maximum and Σ exp(x − maximum).
struct RunningSum {
    float max = -INFINITY;
    float sum = 0;

    // −∞ − (−∞) would be NaN; and a maximum drops NaN, which must still reach the sum.
    __device__ __forceinline__ float reference() const { return max == -INFINITY ? 0.0f : max; }

    template <int U, int N> __device__ __forceinline__ void add(const float (&x)[U][N]) {
        float most = x[0][0];
#pragma unroll
        for (int u = 0; u < U; u++)
#pragma unroll
            for (int i = 0; i < N; i++) most = fmaxf(most, x[u][i]);
        if (most > max) {
            sum *= expf(max - most);
            max = most;
        }
        float r = reference(), part = 0;
#pragma unroll
        for (int u = 0; u < U; u++)
#pragma unroll
            for (int i = 0; i < N; i++) part += expf(x[u][i] - r);
        sum += part;
    }

    __device__ __forceinline__ void add(float x) {
        const float one[1][1] = {{x}};
        add(one);
    }
};

template <typename T> __device__ __forceinline__ RunningSum sum_row(const T* x, int columns) {
    constexpr int N = Pack<T>::N, U = 16 / N;
    RunningSum running;
    const int head = unaligned_head(x, columns);
    if ((int)threadIdx.x < head) running.add(to_float(x[threadIdx.x]));
    const T* body = x + head;
    const int packs = (columns - head) / N, step = blockDim.x;
    for (int k = threadIdx.x; k < packs; k += U * step) {
        float v[U][N];
#pragma unroll
        for (int u = 0; u < U; u++) {
            if (k + u * step < packs) {
                Pack<T>::load(body + (k + u * step) * N, v[u]);
            } else {
#pragma unroll
                for (int i = 0; i < N; i++) v[u][i] = -INFINITY;
            }
        }
        running.add(v);
    }
    const int tail = head + packs * N + threadIdx.x;
    if (tail < columns) running.add(to_float(x[tail]));
    return running;
}

template <typename T, int W> __device__ __forceinline__ void load_columns(const T* x, bool aligned, float (&v)[W]) {
    constexpr int N = Pack<T>::N;
    if (!aligned) {
#pragma unroll
        for (int i = 0; i < W; i++) v[i] = to_float(x[i]);
        return;
    }
#pragma unroll
    for (int j = 0; j < W; j += N) {
        float part[N];
        Pack<T>::load(x + j, part);
#pragma unroll
        for (int i = 0; i < N; i++) v[j + i] = part[i];
    }
}

template <typename T, int W> __device__ __forceinline__ void store_columns(T* x, const float (&v)[W]) {
    constexpr int N = Pack<T>::N;
#pragma unroll
    for (int j = 0; j < W; j += N) {
        float part[N];
#pragma unroll
        for (int i = 0; i < N; i++) part[i] = v[j + i];
        Pack<T>::store(x + j, part);
    }
}

// Stores are aligned; loads are when x and dx are out of step by whole packs only.
template <typename T, typename G>
__device__ __forceinline__ void write_gradient(const T* x, G* dx, int columns, int label, float max, float factor, float scale) {
    constexpr int W = Pack<T>::N > Pack<G>::N ? Pack<T>::N : Pack<G>::N, U = 16 / W;
    const int head = unaligned_head(dx, columns), units = (columns - head) / W, step = blockDim.x;
    const bool aligned = aligned16(x + head);
    auto single = [&](int c) {
        float g = expf(to_float(x[c]) - max) * factor;
        dx[c] = from_float<G>(c == label ? g - scale : g);
    };
    if ((int)threadIdx.x < head) single(threadIdx.x);
    for (int k = threadIdx.x; k < units; k += U * step) {
        float v[U][W];
#pragma unroll
        for (int u = 0; u < U; u++)
            if (k + u * step < units) load_columns<T, W>(x + head + (k + u * step) * W, aligned, v[u]);
#pragma unroll
        for (int u = 0; u < U; u++) {
            if (k + u * step < units) {
                const int c = head + (k + u * step) * W;
#pragma unroll
                for (int i = 0; i < W; i++) {
                    float g = expf(v[u][i] - max) * factor;
                    v[u][i] = c + i == label ? g - scale : g;
                }
                store_columns<G, W>(dx + c, v[u]);
            }
        }
    }
    const int tail = head + units * W + threadIdx.x;
    if (tail < columns) single(tail);
}

// Zero is all bits clear in every dtype: B is an integer of its size.
template <typename B> __device__ __forceinline__ void write_zeros(B* dx, int columns) {
    constexpr int N = 16 / sizeof(B);
    const int head = unaligned_head(dx, columns), packs = (columns - head) / N;
    if ((int)threadIdx.x < head) dx[threadIdx.x] = 0;
    uint4* body = reinterpret_cast<uint4*>(dx + head);
    for (int k = threadIdx.x; k < packs; k += blockDim.x) body[k] = make_uint4(0, 0, 0, 0);
    const int tail = head + packs * N + threadIdx.x;
    if (tail < columns) dx[tail] = 0;
}

// head and tail are shorter than a warp, and a block has at least one.
template <typename T> __device__ void crossentropy_forward(const CrossEntropyParams& p) {
    __shared__ float shared[33];
    const long long row = blockIdx.x, at = row * p.dx_stride;
    const T* x = (const T*)p.x + row * p.x_stride;
    const int label = p.labels[row];
    if (label == IgnoredLabel) {
        if (threadIdx.x == 0) p.losses[row] = 0;
        if (p.dx) {
            if (p.dx_type == F32) write_zeros((uint32_t*)p.dx + at, p.columns);
            else write_zeros((uint16_t*)p.dx + at, p.columns);
        }
        return;
    }
    const bool legal = (unsigned)label < (unsigned)p.columns;
    const float at_label = legal ? to_float(x[label]) : NAN;
    RunningSum mine = sum_row(x, p.columns);
    const float max = block_max(mine.max, shared);
    const float sum = block_sum(mine.sum * expf(mine.max - (max == -INFINITY ? 0.0f : max)), shared);
    if (threadIdx.x == 0) p.losses[row] = (float)((double)max - (double)at_label + log((double)sum));
    if (!p.dx) return;
    // Everyone has read the row, which may be where the gradient goes.
    __syncthreads();
    const float scale = legal ? (p.grad_scale ? *p.grad_scale : p.scale) : NAN;
    const float factor = scale / sum;
    if (p.dx_type == F32) write_gradient(x, (float*)p.dx + at, p.columns, label, max, factor, scale);
    else if (p.dx_type == BF16) write_gradient(x, (bf16*)p.dx + at, p.columns, label, max, factor, scale);
    else write_gradient(x, (f16*)p.dx + at, p.columns, label, max, factor, scale);
}

ENGINE_KERNEL(crossentropy_fwd, CrossEntropyParams, 512, crossentropy_forward)
