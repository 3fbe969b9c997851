// RMSNorm and LayerNorm, forward, of x or of a sum x + d that is made on the way: y = x̂·w [+ b] with x̂ = (x − mean)·rstd, where
// mean = 0 for RMSNorm and the bracket is LayerNorm's alone.
#pragma once
#include "reduce.cuh"
#include "rownorm.cuh"

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
