// RMSNorm and LayerNorm: forward, of x or of a sum that is made on the way, the gradient of x, and the partial sums of the
// weights' gradients.
// With x̂ = (x − mean)·rstd (mean = 0 for RMSNorm) and g = dy·w: dx = rstd·(g − [mean g] − x̂·mean(g·x̂)), dw = Σ_r dy·x̂,
// db = Σ_r dy; the bracket is LayerNorm's alone.
//
// Rows that can be read 16 bytes at a time stay in registers. Each of a row's threads (row_threads of them) keeps 4 packs,
// whose loads are all on their way before the first is used: with few registers that is what fills the memory's pipes.
// Narrow rows have 1 to 16 threads, a power of two, and share a warp; wide rows have whole warps, one or, with the block to
// themselves, several. Sums over lanes take shuffles, over warps one barrier. How a row is shared out depends on its length
// and alignment alone, and so its result does not depend on the other rows. All else (row_threads is 0) is walked element by
// element, one block a row.
//
// Products and sums that could be rounded once or twice are written as the one or the other, so that the bits do not depend
// on what the compiler makes of a kernel.
// Measured in training steps (bf16, H100, 2026-11-27): dx 94% of copy at 8192×1024 and 98% at 8192×2048, a sum and its norm 93 and
// 97%; a block a row had 43% for dx and 38% for the norm (H200).
#pragma once
#include "reduce.cuh"
#include "types.cuh"

constexpr int kRowWarps = 16;  // at most, 10 for 16-bit rows
constexpr int kRowPacks = 4;

// Entry points as ENGINE_KERNEL makes them. What bounds speed is bytes on their way, so registers: rows of f32 take few, and
// 16-bit ones as many as two blocks of `threads` have: 80 for 384 and 96 for 320, which leave room for 24 or 20 warps.
#define ENGINE_ROW_KERNEL(name, Params, threads, body)                                                        \
    ENGINE_PARAMS(name, Params)                                                                               \
    extern "C" __global__ void __launch_bounds__(32 * kRowWarps) name##_f32(const Params p) { body<float>(p); } \
    extern "C" __global__ void __launch_bounds__(threads, 2) name##_bf16(const Params p) { body<bf16>(p); }   \
    extern "C" __global__ void __launch_bounds__(threads, 2) name##_f16(const Params p) { body<f16>(p); }

struct RowNormForwardParams {
    const void* x;
    const void* w;
    const void* b;  // LayerNorm, or null
    const void* d;  // with a sum: x + d, rounded to the rows' dtype, takes the place of x
    void* s;        // and goes here
    void* y;
    float* mean;  // LayerNorm, or null
    float* rstd;  // or null
    long long rows;
    long long x_stride, d_stride, y_stride;  // s has no gaps
    int columns;
    int w_type;
    int b_type;
    float eps;
    float share;  // 1 / columns
    // Nonzero: pointers and rows allow 16-byte accesses, w and b have the rows' dtype, row_threads · kRowPacks packs are a row or more.
    int row_threads;
};

// The two elements of a word, the first in its lower half. With Pack<T> the compiler would keep each half in a register.
template <typename T> __device__ __forceinline__ float2 unpack(uint32_t word);
template <> __device__ __forceinline__ float2 unpack<bf16>(uint32_t word) {
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
}
template <> __device__ __forceinline__ float2 unpack<f16>(uint32_t word) { return __half22float2(*reinterpret_cast<const __half2*>(&word)); }

// Rounds like from_float<T>.
template <typename T> __device__ __forceinline__ uint32_t pack(float low, float high);
template <> __device__ __forceinline__ uint32_t pack<bf16>(float low, float high) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&both);
}
template <> __device__ __forceinline__ uint32_t pack<f16>(float low, float high) {
    const __half2 both = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&both);
}

// A thread's place among rows in registers: its row and its packs, the first of them and how far apart they are.
template <bool Wide> struct RowPlace {
    long long row;
    int first, threads;

    __device__ __forceinline__ RowPlace(int row_threads) : threads(row_threads) {
        if (Wide) {
            const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
            const bool alone = row_threads > 32;
            row = alone ? blockIdx.x : (long long)blockIdx.x * (blockDim.x >> 5) + warp;
            first = (alone ? warp * 32 * kRowPacks : 0) + lane;
        } else {
            const int shift = 31 - __clz(row_threads);
            row = (long long)blockIdx.x * (blockDim.x >> shift) + (threadIdx.x >> shift);
            first = threadIdx.x & (row_threads - 1);
        }
    }

    __device__ __forceinline__ int step() const { return Wide ? 32 : threads; }
    __device__ __forceinline__ bool has(int k, int packs) const { return first + k * step() < packs; }
};

// Makes the use of one loaded word wait for another, so that the compiler cannot put off the load of the other until the first
// has been used. `none` is zero, but the compiler must not know.
__device__ __forceinline__ void load_together(uint32_t& word, uint32_t other, int none) { word |= other & none; }

// Packs as they lie in memory.
template <typename T> struct RowPacks {
    static constexpr int N = Pack<T>::N;
    uint4 raw[kRowPacks];

    // Of a row with this many packs; zeros past its end.
    template <bool Wide> __device__ __forceinline__ void load(const T* row, const RowPlace<Wide>& place, int packs) {
        const uint4* p = (const uint4*)row + place.first;
#pragma unroll
        for (int k = 0; k < kRowPacks; k++) {
            raw[k] = make_uint4(0, 0, 0, 0);
            if (place.has(k, packs)) raw[k] = p[k * place.step()];
        }
    }

    template <bool Wide> __device__ __forceinline__ void store(T* row, const RowPlace<Wide>& place, int packs) const {
        uint4* p = (uint4*)row + place.first;
#pragma unroll
        for (int k = 0; k < kRowPacks; k++)
            if (place.has(k, packs)) p[k * place.step()] = raw[k];
    }

    // Hides from the compiler that these have been converted before: it would keep the floats instead, twice the registers.
    __device__ __forceinline__ void forget() {
#pragma unroll
        for (int k = 0; k < kRowPacks; k++) asm volatile("" : "+r"(raw[k].x), "+r"(raw[k].y), "+r"(raw[k].z), "+r"(raw[k].w));
    }

    __device__ __forceinline__ void get(int k, float (&x)[N]) const {
        const uint32_t words[4] = {raw[k].x, raw[k].y, raw[k].z, raw[k].w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if constexpr (N == 4) {
                x[i] = __uint_as_float(words[i]);
            } else {
                const float2 both = unpack<T>(words[i]);
                x[2 * i] = both.x, x[2 * i + 1] = both.y;
            }
        }
    }

    __device__ __forceinline__ void set(int k, const float (&x)[N]) {
        uint32_t words[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if constexpr (N == 4) words[i] = __float_as_uint(x[i]);
            else words[i] = pack<T>(x[2 * i], x[2 * i + 1]);
        }
        raw[k] = make_uint4(words[0], words[1], words[2], words[3]);
    }
};

// Sums of a pack's terms, with few additions in sequence.
template <int N> __device__ __forceinline__ float pack_sum(const float (&x)[N]) {
    float even = x[0], odd = x[1];
#pragma unroll
    for (int i = 2; i < N; i += 2) even += x[i], odd += x[i + 1];
    return even + odd;
}

template <int N> __device__ __forceinline__ float pack_dot(const float (&x)[N], const float (&y)[N]) {
    float even = __fmul_rn(x[0], y[0]), odd = __fmul_rn(x[1], y[1]);
#pragma unroll
    for (int i = 2; i < N; i += 2) even = fmaf(x[i], y[i], even), odd = fmaf(x[i + 1], y[i + 1], odd);
    return even + odd;
}

// Sums over a row's threads, for each of them; `shared` is these sums' own. All threads of the block call it.
template <bool Wide, int K> __device__ __forceinline__ void row_sums(float (&x)[K], int threads, float (&shared)[K][kRowWarps]) {
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) {
        if (!Wide && d >= threads) continue;
#pragma unroll
        for (int i = 0; i < K; i++) x[i] += __shfl_xor_sync(0xffffffffu, x[i], d);
    }
    if (!Wide || threads == 32) return;
    const int lane = threadIdx.x & 31, slot = lane & (kRowWarps - 1);
    if (lane == 0) {
#pragma unroll
        for (int i = 0; i < K; i++) shared[i][threadIdx.x >> 5] = x[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < K; i++) x[i] = slot < threads >> 5 ? shared[i][slot] : 0.0f;
#pragma unroll
    for (int d = kRowWarps / 2; d > 0; d >>= 1) {
#pragma unroll
        for (int i = 0; i < K; i++) x[i] += __shfl_xor_sync(0xffffffffu, x[i], d);
    }
}

// ((x − mean)·rstd)·w + b, of which `distance` is the bracket.
template <bool Centered> __device__ __forceinline__ float row_output(float distance, float rstd, float w, float b) {
    const float h = __fmul_rn(distance, rstd);
    return Centered ? fmaf(h, w, b) : __fmul_rn(h, w);
}

template <typename T, bool Centered, bool Added, bool Wide>
__device__ __forceinline__ void row_norm_forward(const RowNormForwardParams& p) {
    constexpr int N = Pack<T>::N;
    __shared__ float shared[2][1][kRowWarps];
    const RowPlace<Wide> place(p.row_threads);
    const int packs = place.row < p.rows ? p.columns / N : 0;
    RowPacks<T> x, added, weight, bias;
    x.load((const T*)p.x + place.row * p.x_stride, place, packs);
    if (Added) added.load((const T*)p.d + place.row * p.d_stride, place, packs);
    weight.load((const T*)p.w, place, packs);
    if (Centered) bias.load((const T*)p.b, place, p.b ? packs : 0);
    float v[kRowPacks][N], mean = 0, sum[1] = {0};
    if (Added) {
#pragma unroll
        for (int k = 0; k < kRowPacks; k++) {
            float d[N];
            x.get(k, v[k]);
            added.get(k, d);
#pragma unroll
            for (int i = 0; i < N; i++) v[k][i] += d[i];
            x.set(k, v[k]);
        }
        x.store((T*)p.s + place.row * p.columns, place, packs);
    }
#pragma unroll
    for (int k = 0; k < kRowPacks; k++) x.get(k, v[k]);
    if (Centered) {
#pragma unroll
        for (int k = 0; k < kRowPacks; k++) sum[0] += pack_sum(v[k]);
        row_sums<Wide>(sum, place.threads, shared[0]);
        mean = __fmul_rn(sum[0], p.share);
        sum[0] = 0;
    }
#pragma unroll
    for (int k = 0; k < kRowPacks; k++) {
        if (Centered) {
#pragma unroll
            for (int i = 0; i < N; i++) v[k][i] -= mean;
        }
        const float part = pack_dot(v[k], v[k]);
        // Beyond the row the distance from the mean is not zero.
        if (!Centered || place.has(k, packs)) sum[0] += part;
    }
    row_sums<Wide>(sum, place.threads, shared[1]);
    const float rstd = __frsqrt_rn(fmaf(sum[0], p.share, p.eps));
    weight.forget();
    if (Centered) bias.forget();
#pragma unroll
    for (int k = 0; k < kRowPacks; k++) {
        float w[N], b[N] = {};
        weight.get(k, w);
        if (Centered) bias.get(k, b);
#pragma unroll
        for (int i = 0; i < N; i++) v[k][i] = row_output<Centered>(v[k][i], rstd, w[i], b[i]);
        x.set(k, v[k]);
    }
    x.store((T*)p.y + place.row * p.y_stride, place, packs);
    if (place.first == 0 && packs) {
        if (p.rstd) p.rstd[place.row] = rstd;
        if (Centered && p.mean) p.mean[place.row] = mean;
    }
}

template <typename T, bool Centered, bool Added> __device__ __forceinline__ void row_norm_forward_by_block(const RowNormForwardParams& p) {
    __shared__ float shared[33];
    const T* x = (const T*)p.x + blockIdx.x * p.x_stride;
    if (Added) {
        const T* d = (const T*)p.d + blockIdx.x * p.d_stride;
        T* s = (T*)p.s + (long long)blockIdx.x * p.columns;
        for (int c = threadIdx.x; c < p.columns; c += blockDim.x) s[c] = from_float<T>(to_float(x[c]) + to_float(d[c]));
        x = s;  // of which each thread reads what it wrote itself
    }
    T* y = (T*)p.y + blockIdx.x * p.y_stride;
    float mean = 0, sum = 0;
    if (Centered) {
        for (int c = threadIdx.x; c < p.columns; c += blockDim.x) sum += to_float(x[c]);
        mean = __fmul_rn(block_sum(sum, shared), p.share);
        sum = 0;
    }
    for (int c = threadIdx.x; c < p.columns; c += blockDim.x) {
        const float v = Centered ? to_float(x[c]) - mean : to_float(x[c]);
        sum = fmaf(v, v, sum);
    }
    const float rstd = __frsqrt_rn(fmaf(block_sum(sum, shared), p.share, p.eps));
    for (int c = threadIdx.x; c < p.columns; c += blockDim.x) {
        const float v = Centered ? to_float(x[c]) - mean : to_float(x[c]);
        const float b = Centered && p.b ? load_any(p.b, c, p.b_type) : 0.0f;
        y[c] = from_float<T>(row_output<Centered>(v, rstd, load_any(p.w, c, p.w_type), b));
    }
    if (threadIdx.x == 0) {
        if (p.rstd) p.rstd[blockIdx.x] = rstd;
        if (Centered && p.mean) p.mean[blockIdx.x] = mean;
    }
}

template <typename T, bool Centered, bool Added = false> __device__ __forceinline__ void row_norm_forward(const RowNormForwardParams& p) {
    if (p.row_threads >= 32) row_norm_forward<T, Centered, Added, true>(p);
    else if (p.row_threads) row_norm_forward<T, Centered, Added, false>(p);
    else row_norm_forward_by_block<T, Centered, Added>(p);
}

struct RowNormBackwardParams {
    const void* dy;
    const void* x;
    const void* w;
    const float* mean;  // LayerNorm
    const float* rstd;
    void* dx;
    long long rows;
    long long dx_stride;
    int columns;
    int w_type;
    int accumulate;   // nonzero: dx is added to
    float share;      // 1 / columns
    int row_threads;  // as in RowNormForwardParams
};

// The row's factors in dx = rstd·g + slope·(x − mean) + shift, from Σ g·(x − mean) and Σ g.
template <bool Centered> struct RowGradient {
    float rstd, slope, shift;

    __device__ __forceinline__ RowGradient(float sum_gx, float sum_g, float share, float rstd) : rstd(rstd) {
        slope = -__fmul_rn(__fmul_rn(rstd, rstd), __fmul_rn(__fmul_rn(sum_gx, share), rstd));
        shift = Centered ? -__fmul_rn(rstd, __fmul_rn(sum_g, share)) : 0.0f;
    }

    // Added to `old`, which is 0 where nothing was there.
    __device__ __forceinline__ float of(float g, float distance, float old) const {
        const float rest = Centered ? fmaf(slope, distance, shift) : __fmul_rn(slope, distance);
        return fmaf(rstd, g, rest) + old;
    }
};

template <typename T, bool Centered, bool Wide> __device__ __forceinline__ void row_norm_backward(const RowNormBackwardParams& p) {
    constexpr int N = Pack<T>::N, Sums = Centered ? 2 : 1;
    __shared__ float shared[Sums][kRowWarps];
    const RowPlace<Wide> place(p.row_threads);
    const int packs = place.row < p.rows ? p.columns / N : 0;
    T* dx = (T*)p.dx + place.row * p.dx_stride;
    RowPacks<T> dy, x, old, weight;
    dy.load((const T*)p.dy + place.row * p.columns, place, packs);
    x.load((const T*)p.x + place.row * p.columns, place, packs);
    old.load(dx, place, p.accumulate ? packs : 0);
    const float mean = Centered && packs ? p.mean[place.row] : 0.0f, rstd = packs ? p.rstd[place.row] : 0.0f;
    weight.load((const T*)p.w, place, packs);
    const int none = p.columns >> 31;
#pragma unroll
    for (int k = 0; k < kRowPacks; k++) load_together(dy.raw[k].x, old.raw[k].x, none);
    load_together(dy.raw[0].x, __float_as_uint(rstd), none);
    float g[kRowPacks][N], v[N], sums[Sums] = {};
#pragma unroll
    for (int k = 0; k < kRowPacks; k++) {
        float w[N];
        dy.get(k, g[k]);
        x.get(k, v);
        weight.get(k, w);
#pragma unroll
        for (int i = 0; i < N; i++) {
            g[k][i] = __fmul_rn(g[k][i], w[i]);
            if (Centered) v[i] -= mean;
        }
        sums[0] += pack_dot(g[k], v);
        if (Centered) sums[Sums - 1] += pack_sum(g[k]);
    }
    row_sums<Wide>(sums, place.threads, shared);
    const RowGradient<Centered> gradient(sums[0], sums[Sums - 1], p.share, rstd);
    x.forget();
    old.forget();
#pragma unroll
    for (int k = 0; k < kRowPacks; k++) {
        float before[N];
        x.get(k, v);
        old.get(k, before);
#pragma unroll
        for (int i = 0; i < N; i++) v[i] = gradient.of(g[k][i], Centered ? v[i] - mean : v[i], before[i]);
        x.set(k, v);
    }
    x.store(dx, place, packs);
}

template <typename T, bool Centered> __device__ __forceinline__ void row_norm_backward_by_block(const RowNormBackwardParams& p) {
    __shared__ float shared[33];
    const long long offset = (long long)blockIdx.x * p.columns;
    const T *dy = (const T*)p.dy + offset, *x = (const T*)p.x + offset;
    T* dx = (T*)p.dx + blockIdx.x * p.dx_stride;
    const float mean = Centered ? p.mean[blockIdx.x] : 0.0f, rstd = p.rstd[blockIdx.x];
    float sum_g = 0, sum_gx = 0;
    for (int c = threadIdx.x; c < p.columns; c += blockDim.x) {
        const float g = __fmul_rn(to_float(dy[c]), load_any(p.w, c, p.w_type));
        sum_gx = fmaf(g, Centered ? to_float(x[c]) - mean : to_float(x[c]), sum_gx);
        sum_g += g;
    }
    if (Centered) sum_g = block_sum(sum_g, shared);
    sum_gx = block_sum(sum_gx, shared);
    const RowGradient<Centered> gradient(sum_gx, sum_g, p.share, rstd);
    for (int c = threadIdx.x; c < p.columns; c += blockDim.x) {
        const float g = __fmul_rn(to_float(dy[c]), load_any(p.w, c, p.w_type));
        const float v = Centered ? to_float(x[c]) - mean : to_float(x[c]);
        dx[c] = from_float<T>(gradient.of(g, v, p.accumulate ? to_float(dx[c]) : 0.0f));
    }
}

template <typename T, bool Centered> __device__ __forceinline__ void row_norm_backward(const RowNormBackwardParams& p) {
    if (p.row_threads >= 32) row_norm_backward<T, Centered, true>(p);
    else if (p.row_threads) row_norm_backward<T, Centered, false>(p);
    else row_norm_backward_by_block<T, Centered>(p);
}

struct RowNormWeightParams {
    const void* dy;
    const void* x;
    const float* mean;
    const float* rstd;
    float* dw;  // partial sums [chunks, columns]
    float* db;  // the same for LayerNorm's bias, or null
    long long rows;
    long long chunk_rows;
    int columns;
};

// A block owns 32 columns and one chunk of rows; its 8 warps take rows in turn. The loads of 8 of a warp's rows are on their way
// at once, which of a chunk of 64 rows is all.
template <typename T, bool Centered> __device__ __forceinline__ void row_norm_weight(const RowNormWeightParams& p) {
    __shared__ float shared_w[8][33], shared_b[8][33];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int c = blockIdx.x * 32 + lane;
    long long begin = blockIdx.y * p.chunk_rows, end = min(begin + p.chunk_rows, p.rows);
    float dw = 0, db = 0;
    if (c < p.columns) {
        constexpr int U = 8;
        for (long long first = begin + warp; first < end; first += 8 * U) {
            T dy[U], x[U];
            float mean[U], rstd[U];
#pragma unroll
            for (int u = 0; u < U; u++) {
                const long long r = min(first + 8 * u, end - 1);
                dy[u] = ((const T*)p.dy)[r * p.columns + c];
                x[u] = ((const T*)p.x)[r * p.columns + c];
                mean[u] = Centered ? p.mean[r] : 0.0f;
                rstd[u] = p.rstd[r];
            }
#pragma unroll
            for (int u = 0; u < U; u++) {
                if (first + 8 * u >= end) continue;
                const float g = to_float(dy[u]);
                dw = fmaf(g, __fmul_rn(to_float(x[u]) - mean[u], rstd[u]), dw);
                db += g;
            }
        }
    }
    shared_w[warp][lane] = dw;
    shared_b[warp][lane] = db;
    __syncthreads();
    if (warp == 0 && c < p.columns) {
        float sum_w = 0, sum_b = 0;
#pragma unroll
        for (int k = 0; k < 8; k++) {
            sum_w += shared_w[k][lane];
            sum_b += shared_b[k][lane];
        }
        long long at = (long long)blockIdx.y * p.columns + c;
        p.dw[at] = sum_w;
        if (Centered && p.db) p.db[at] = sum_b;
    }
}
