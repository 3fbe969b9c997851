// dora_norm_rows, dora_norm_columns — sums of (W + Δ)² over each output's part of a tile, Δ = scale·B·A (common/delta.cuh)
// dora_norm_sum — norm[n] = √Σ of those sums; dora_pack prepares the factors
// dora_ratio — y = magnitude / norm;  dora_scale — W[n,:] ← W[n,:]·ratio[n]
// Shapes: W [R,C], in the norm with any row stride, outputs along the rows, or along the columns for W stored [in, out]; any alignment
// Dtypes: W f32 | bf16 | f16 (scale: f32), the rest f32; A, B any float.  Arch: sm_80+
// Bytes: norm R·C·e + 6·r·(R + C), scale 8·R·C.  Flops: norm (2r + 3)·R·C.  Bound: memory up to about rank 16
// Algorithm: norm: a block a tile of 128 rows × 256 bytes as in merge.cu, W + Δ never leaves registers; then one thread an output
// Numerics: fixed order by shapes and dtype alone, f32.  Aliasing: ratio's y may be an operand; scale works in place
#include "../common/delta.cuh"

struct DoraNormParams {
    const void* w;
    DeltaFactors factors;
    float* partial;  // [tiles along an output's vector, outputs]
    long long stride;
    int rows;
    int columns;
    int tiles_across;
    int vectors;  // nonzero: pointer and columns allow 16-byte accesses
};

template <typename T, bool Columns> __device__ __forceinline__ void dora_norm(const DoraNormParams& p) {
    using D = DeltaTile<T>;
    using W = Word<T>;
    constexpr int N = D::N, H = W::H;
    uint4* shared = dynamic_shared<uint4>();
    uint4* pieces = shared + DeltaFactorQuads;
    const int tile = blockIdx.x;
    float delta[DeltaPieces][N];
    const auto tile_of = [&] { return D(p.w, p.stride, p.rows, p.columns, p.tiles_across, hidden(tile), p.vectors); };
    delta_tile<T>(p.factors, tile_of, shared, pieces, delta);
    const D t = tile_of();
    // W's pieces and the factors are padded with zeros, so that elements outside W contribute (0 + 0)².
    const uint4* own = D::slots(pieces);
#pragma unroll
    for (int i = 0; i < DeltaPieces; i++) {
        const uint4 piece = own[i * DeltaThreads];
        const uint32_t words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
        for (int c = 0; c < 4; c++) {
            float x[H];
            W::split(words[c], x);
#pragma unroll
            for (int h = 0; h < H; h++) {
                const float v = x[h] + delta[i][c * H + h];
                delta[i][c * H + h] = v * v;
            }
        }
    }
    // Sums over the lanes that have the row, or the column, then over the warps that do.
    float* sums = (float*)shared;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    __syncthreads();
    if constexpr (!Columns) {
        float* out = p.partial + (long long)(tile % p.tiles_across) * p.rows + t.row;
#pragma unroll
        for (int i = 0; i < DeltaPieces; i++) {
            float sum = 0;
#pragma unroll
            for (int j = 0; j < N; j++) sum += delta[i][j];
#pragma unroll
            for (int d = 16; d >= 4; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
            if (lane < 4) sums[warp % 2 * DeltaRows + t.row_of(i)] = sum;
        }
        __syncthreads();
        for (int row = threadIdx.x; row < t.rows; row += DeltaThreads) out[row] = sums[row] + sums[DeltaRows + row];
    } else {
        float* out = p.partial + (long long)(tile / p.tiles_across) * p.columns + t.left;
#pragma unroll
        for (int j = 0; j < N; j++) {
            float sum = 0;
#pragma unroll
            for (int i = 0; i < DeltaPieces; i++) sum += delta[i][j];
#pragma unroll
            for (int d = 2; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
            if (lane % 4 == 0) sums[warp / 2 * D::Columns + t.column + j] = sum;
        }
        __syncthreads();
        for (int column = threadIdx.x; column < t.columns; column += DeltaThreads) {
            float sum = 0;
#pragma unroll
            for (int i = 0; i < DeltaThreads / 64; i++) sum += sums[i * D::Columns + column];
            out[column] = sum;
        }
    }
}

template <typename T> __device__ void dora_norm_rows(const DoraNormParams& p) { dora_norm<T, false>(p); }
template <typename T> __device__ void dora_norm_columns(const DoraNormParams& p) { dora_norm<T, true>(p); }

// Two blocks a multiprocessor, as in merge.cu.
#define DORA_BOUNDS DeltaThreads, 2
ENGINE_KERNEL(dora_norm_rows, DoraNormParams, DORA_BOUNDS, dora_norm_rows)
ENGINE_KERNEL(dora_norm_columns, DoraNormParams, DORA_BOUNDS, dora_norm_columns)

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
