// The gradients of RMSNorm and LayerNorm: of x, and partial sums of the weights'. With x̂ = (x − mean)·rstd (mean = 0 for RMSNorm)
// and g = dy·w: dx = rstd·(g − [mean g] − x̂·mean(g·x̂)), dw = Σ_r dy·x̂, db = Σ_r dy; the bracket is LayerNorm's alone.
#pragma once
#include "reduce.cuh"
#include "rownorm.cuh"

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

// Makes the use of one loaded word wait for another, so that the compiler cannot put off the load of the other until the first
// has been used. `none` is zero, but the compiler must not know.
__device__ __forceinline__ void load_together(uint32_t& word, uint32_t other, int none) { word |= other & none; }

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
