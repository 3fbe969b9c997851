// RMSNorm and LayerNorm: forward and the gradient of x, one block a row, and the partial sums of the weights' gradients.
// With x̂ = (x − mean)·rstd (mean = 0 for RMSNorm) and g = dy·w: dx = rstd·(g − [mean g] − x̂·mean(g·x̂)), dw = Σ_r dy·x̂,
// db = Σ_r dy; the bracket is LayerNorm's alone.
#pragma once
#include "reduce.cuh"
#include "types.cuh"

constexpr int kRowThreads = 512;

struct RowNormForwardParams {
    const void* x;
    const void* w;
    const void* b;  // LayerNorm, or null
    void* y;
    float* mean;  // LayerNorm, or null
    float* rstd;  // or null
    long long y_stride;
    int columns;
    int w_type;
    int b_type;
    float eps;
    int vectors;  // nonzero: pointers and columns allow 16-byte accesses
};

template <typename T, bool Centered> __device__ __forceinline__ void row_norm_forward(const RowNormForwardParams& p) {
    constexpr int N = Pack<T>::N, Kept = 4;
    __shared__ float shared[33];
    const T* x = (const T*)p.x + (long long)blockIdx.x * p.columns;
    T* y = (T*)p.y + blockIdx.x * p.y_stride;
    float mean = 0, rstd;
    if (p.vectors && p.columns <= Kept * N * (int)blockDim.x) {
        float row[Kept][N];
        float sum = 0;
#pragma unroll
        for (int k = 0; k < Kept; k++) {
            int c = (k * blockDim.x + threadIdx.x) * N;
            if (c >= p.columns) continue;
            Pack<T>::load(x + c, row[k]);
#pragma unroll
            for (int i = 0; i < N; i++) sum += Centered ? row[k][i] : row[k][i] * row[k][i];
        }
        if (Centered) {
            mean = block_sum(sum, shared) / p.columns;
            sum = 0;
#pragma unroll
            for (int k = 0; k < Kept; k++) {
                if ((int)(k * blockDim.x + threadIdx.x) * N >= p.columns) continue;
#pragma unroll
                for (int i = 0; i < N; i++) sum += (row[k][i] - mean) * (row[k][i] - mean);
            }
        }
        rstd = 1.0f / sqrtf(block_sum(sum, shared) / p.columns + p.eps);
#pragma unroll
        for (int k = 0; k < Kept; k++) {
            int c = (k * blockDim.x + threadIdx.x) * N;
            if (c >= p.columns) continue;
            float w[N], b[N];
            load_any_pack(p.w, c, p.w_type, w);
            if (Centered && p.b) load_any_pack(p.b, c, p.b_type, b);
#pragma unroll
            for (int i = 0; i < N; i++) {
                row[k][i] = (row[k][i] - mean) * rstd * w[i];
                if (Centered && p.b) row[k][i] += b[i];
            }
            Pack<T>::store(y + c, row[k]);
        }
    } else {
        float sum = 0;
        if (Centered) {
            for (int c = threadIdx.x; c < p.columns; c += blockDim.x) sum += to_float(x[c]);
            mean = block_sum(sum, shared) / p.columns;
            sum = 0;
        }
        for (int c = threadIdx.x; c < p.columns; c += blockDim.x) {
            float v = to_float(x[c]) - mean;
            sum += v * v;
        }
        rstd = 1.0f / sqrtf(block_sum(sum, shared) / p.columns + p.eps);
        for (int c = threadIdx.x; c < p.columns; c += blockDim.x) {
            float v = (to_float(x[c]) - mean) * rstd * load_any(p.w, c, p.w_type);
            if (Centered && p.b) v += load_any(p.b, c, p.b_type);
            y[c] = from_float<T>(v);
        }
    }
    if (threadIdx.x == 0) {
        if (p.rstd) p.rstd[blockIdx.x] = rstd;
        if (Centered && p.mean) p.mean[blockIdx.x] = mean;
    }
}

struct RowNormBackwardParams {
    const void* dy;
    const void* x;
    const void* w;
    const float* mean;  // LayerNorm
    const float* rstd;
    void* dx;
    long long dx_stride;
    int columns;
    int w_type;
    int accumulate;  // nonzero: dx is added to
    int vectors;
};

template <typename T, bool Centered> __device__ __forceinline__ void row_norm_backward(const RowNormBackwardParams& p) {
    constexpr int N = Pack<T>::N, Kept = 4;
    __shared__ float shared[33];
    long long offset = (long long)blockIdx.x * p.columns;
    const T *dy = (const T*)p.dy + offset, *x = (const T*)p.x + offset;
    T* dx = (T*)p.dx + blockIdx.x * p.dx_stride;
    float mean = Centered ? p.mean[blockIdx.x] : 0.0f, rstd = p.rstd[blockIdx.x];
    float sum_g = 0, sum_gx = 0;
    if (p.vectors && p.columns <= Kept * N * (int)blockDim.x) {
        float g[Kept][N], h[Kept][N];
#pragma unroll
        for (int k = 0; k < Kept; k++) {
            int c = (k * blockDim.x + threadIdx.x) * N;
            if (c >= p.columns) continue;
            float w[N];
            Pack<T>::load(dy + c, g[k]);
            Pack<T>::load(x + c, h[k]);
            load_any_pack(p.w, c, p.w_type, w);
#pragma unroll
            for (int i = 0; i < N; i++) {
                g[k][i] *= w[i];
                h[k][i] = (h[k][i] - mean) * rstd;
                sum_g += g[k][i];
                sum_gx += g[k][i] * h[k][i];
            }
        }
        if (Centered) sum_g = block_sum(sum_g, shared) / p.columns;
        sum_gx = block_sum(sum_gx, shared) / p.columns;
#pragma unroll
        for (int k = 0; k < Kept; k++) {
            int c = (k * blockDim.x + threadIdx.x) * N;
            if (c >= p.columns) continue;
#pragma unroll
            for (int i = 0; i < N; i++) g[k][i] = rstd * (g[k][i] - (Centered ? sum_g : 0.0f) - h[k][i] * sum_gx);
            if (p.accumulate) {
                Pack<T>::load(dx + c, h[k]);
#pragma unroll
                for (int i = 0; i < N; i++) g[k][i] += h[k][i];
            }
            Pack<T>::store(dx + c, g[k]);
        }
        return;
    }
    for (int c = threadIdx.x; c < p.columns; c += blockDim.x) {
        float g = to_float(dy[c]) * load_any(p.w, c, p.w_type), h = (to_float(x[c]) - mean) * rstd;
        sum_g += g;
        sum_gx += g * h;
    }
    if (Centered) sum_g = block_sum(sum_g, shared) / p.columns;
    sum_gx = block_sum(sum_gx, shared) / p.columns;
    for (int c = threadIdx.x; c < p.columns; c += blockDim.x) {
        float g = to_float(dy[c]) * load_any(p.w, c, p.w_type), h = (to_float(x[c]) - mean) * rstd;
        float v = rstd * (g - (Centered ? sum_g : 0.0f) - h * sum_gx);
        dx[c] = from_float<T>(p.accumulate ? v + to_float(dx[c]) : v);
    }
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

// A block owns 32 columns and one chunk of rows; its 8 warps take rows in turn.
template <typename T, bool Centered> __device__ __forceinline__ void row_norm_weight(const RowNormWeightParams& p) {
    __shared__ float shared_w[8][33], shared_b[8][33];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int c = blockIdx.x * 32 + lane;
    long long begin = blockIdx.y * p.chunk_rows, end = min(begin + p.chunk_rows, p.rows);
    float dw = 0, db = 0;
    if (c < p.columns) {
        for (long long r = begin + warp; r < end; r += 8) {
            float g = to_float(((const T*)p.dy)[r * p.columns + c]);
            float h = (to_float(((const T*)p.x)[r * p.columns + c]) - (Centered ? p.mean[r] : 0.0f)) * p.rstd[r];
            dw += g * h;
            db += g;
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
