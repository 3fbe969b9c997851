// dora_norm_rows, dora_norm_columns — sums of (W + Δ)² over each output's part of a tile, Δ = scale·B·A (common/delta.cuh)
// dora_norm_sum — norm[n] = √Σ of those sums; dora_pack prepares the factors
// dora_ratio — y = magnitude / norm;  dora_scale — W[n,:] ← W[n,:]·ratio[n]
// Shapes: W [R,C] without gaps, outputs along the rows, or along the columns for W stored [in, out]; any alignment
// Dtypes: W f32 | bf16 | f16 (scale: f32), the rest f32; A, B any float.  Arch: sm_80+
// Bytes: norm R·C·e + 4·r·(R + C), scale 8·R·C.  Flops: norm (2r + 3)·R·C.  Bound: memory up to about rank 32
// Algorithm: norm: a block a tile of 64 × 128 as in merge.cu, W + Δ never leaves registers; then one thread an output
// Numerics: fixed order by the shapes alone, f32.  Aliasing: ratio's y may be an operand; scale works in place
#include "../common/delta.cuh"

struct DoraNormParams {
    const void* w;
    DeltaFactors factors;
    float* partial;  // [tiles along an output's vector, outputs]
    int rows;
    int columns;
    int tiles_across;
    int vectors;  // nonzero: pointer and columns allow 16-byte accesses
};

template <typename T, bool Columns> __device__ __forceinline__ void dora_norm(const DoraNormParams& p) {
    constexpr int N = Pack<T>::N, G = 8 / N;
    __shared__ __align__(16) unsigned char shared[DeltaSharedBytes];
    int tile_row = (int)(blockIdx.x / p.tiles_across) * DeltaRows;
    int tile_column = (int)(blockIdx.x % p.tiles_across) * DeltaColumns;
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    int first = tile_row + 4 * ty;
    float w[4][8];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int g = 0; g < G; g++) {
            int column = tile_column + delta_column<N>(g * N), valid = first + i < p.rows ? p.columns - column : 0;
            const T* from = (const T*)p.w + (long long)(first + i) * p.columns + column;
            float pack[N] = {};
            if (p.vectors && valid >= N) Pack<T>::load(from, pack);
            else {
#pragma unroll
                for (int n = 0; n < N; n++)
                    if (n < valid) pack[n] = to_float(from[n]);
            }
#pragma unroll
            for (int n = 0; n < N; n++) w[i][g * N + n] = pack[n];
        }
    // The factors are padded with zeros, so that elements outside W contribute (0 + 0)².
    float delta[4][8];
    delta_tile<N>(p.factors, tile_row, tile_column, shared, delta);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float v = w[i][j] + delta[i][j];
            w[i][j] = v * v;
        }
    if constexpr (!Columns) {
        float* out = p.partial + (long long)(blockIdx.x % p.tiles_across) * p.rows;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float sum = 0;
#pragma unroll
            for (int j = 0; j < 8; j++) sum += w[i][j];
            // Over the 16 threads of a row, which are half a warp.
#pragma unroll
            for (int d = 8; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
            if (tx == 0 && first + i < p.rows) out[first + i] = sum;
        }
    } else {
        float* out = p.partial + (long long)(blockIdx.x / p.tiles_across) * p.columns;
        float* sums = (float*)shared;  // [16][128]
        __syncthreads();
#pragma unroll
        for (int j = 0; j < 8; j++)
            sums[ty * DeltaColumns + delta_column<N>(j)] = (w[0][j] + w[1][j]) + (w[2][j] + w[3][j]);
        __syncthreads();
        int column = threadIdx.x;
        if (column < DeltaColumns && tile_column + column < p.columns) {
            float sum = 0;
#pragma unroll
            for (int i = 0; i < 16; i++) sum += sums[i * DeltaColumns + column];
            out[tile_column + column] = sum;
        }
    }
}

template <typename T> __device__ void dora_norm_rows(const DoraNormParams& p) { dora_norm<T, false>(p); }
template <typename T> __device__ void dora_norm_columns(const DoraNormParams& p) { dora_norm<T, true>(p); }

ENGINE_KERNEL(dora_norm_rows, DoraNormParams, DeltaThreads, dora_norm_rows)
ENGINE_KERNEL(dora_norm_columns, DoraNormParams, DeltaThreads, dora_norm_columns)

ENGINE_PARAMS(dora_pack, DeltaPackParams)
extern "C" __global__ void __launch_bounds__(256) dora_pack(const DeltaPackParams p) { delta_pack(p); }

struct DoraSumParams {
    const float* partial;  // [parts, outputs]
    float* norm;
    int parts;
    int outputs;
};

ENGINE_PARAMS(dora_norm_sum, DoraSumParams)
extern "C" __global__ void __launch_bounds__(128) dora_norm_sum(const DoraSumParams p) {
    int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= p.outputs) return;
    float sum = 0;
    for (int i = 0; i < p.parts; i++) sum += p.partial[(long long)i * p.outputs + n];
    p.norm[n] = sqrtf(sum);
}

struct DoraRatioParams {
    const void* magnitude;
    const void* norm;
    void* y;
    long long elements;
};

template <typename T> __device__ void dora_ratio(const DoraRatioParams& p) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.elements)
        ((T*)p.y)[i] = from_float<T>(to_float(((const T*)p.magnitude)[i]) / to_float(((const T*)p.norm)[i]));
}

ENGINE_KERNEL(dora_ratio, DoraRatioParams, 256, dora_ratio)

struct DoraScaleParams {
    float* w;
    const float* ratio;
    int columns;
    int blocks_across;  // blocks of a row, 4096 columns each
    int transposed;     // nonzero: the ratio is the column's
    int vectors;
};

ENGINE_PARAMS(dora_scale, DoraScaleParams)
extern "C" __global__ void __launch_bounds__(256) dora_scale_f32(const DoraScaleParams p) {
    constexpr int Part = 4096;
    int row = blockIdx.x / p.blocks_across, begin = blockIdx.x % p.blocks_across * Part, end = min(begin + Part, p.columns);
    float* w = p.w + (long long)row * p.columns;
    float ratio = p.transposed ? 0.0f : p.ratio[row];
    if (p.vectors) {
#pragma unroll
        for (int k = 0; k < Part / (4 * 256); k++) {
            int c = begin + 4 * (k * 256 + (int)threadIdx.x);
            if (c < end) {
                float x[4], r[4] = {ratio, ratio, ratio, ratio};
                Pack<float>::load(w + c, x);
                if (p.transposed) Pack<float>::load(p.ratio + c, r);
#pragma unroll
                for (int n = 0; n < 4; n++) x[n] *= r[n];
                Pack<float>::store(w + c, x);
            }
        }
        return;
    }
    for (int c = begin + (int)threadIdx.x; c < end; c += 256) w[c] *= p.transposed ? p.ratio[c] : ratio;
}
