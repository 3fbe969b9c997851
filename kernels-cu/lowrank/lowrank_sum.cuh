// lowrank_sum — adds up what lowrank_grad_y and lowrank_grad_x left: dS = scale·Σ over column blocks, dB and dA += Σ over row blocks
//   where x was the input of a norm, and F in place of dS: dA[j,c] += w[c]·(Σ − Σ F·mean) + b[c]·Σ dS. Beside dS, for a stack
//   behind a norm, F and blocks' sums over rows as lowrank_scale makes them of dS
// Shapes: see the params; dS [M,R] bf16 | f16, even stride; F [M,R] without gaps; gradients f32 without gaps, dB [C,r], dA [r,K]
// Bytes: the partial sums once, from the L2 cache as a rule.  Algorithm: the first blocks form dS, four columns a thread, of every
//   n-th range of rows; in the others a thread adds one element's parts
// Numerics: deterministic, f32, in index order; sums over a block's rows by thread, then in pairs within a warp, then by warp. F has
//   lowrank_scale's bits.
#pragma once
#include "params.cuh"

constexpr int SumThreads = 256;
constexpr int SumUnroll = 16;  // parts on their way at once
constexpr int MostDownWidth = 32;

struct LowRankSumParams {
    const float* partial;       // gradients: [parts][columns][width] of each linear, or [parts][width][columns]
    const float* down_partial;  // dS: [64-row groups][column blocks][64][down_width], or null
    void* d;
    const float* corrections;   // of LayerNorm, over rows: [correction_parts][Σ F·mean, Σ dS][correction_width], or null
    const void* weight;         // the norm's [columns], or null
    const void* bias;           // [columns], or null
    void* f;                    // dS·rstd [M, f_width], or null
    const float* rstd;
    const float* mean;          // or null: no sums
    float* sums;                // [blocks that form dS][Σ F·mean, Σ dS][f_width]
    long long partial_stride;   // floats of a part
    long long count;            // elements of a part
    long long rows;
    long long d_stride;
    int parts;
    int by_rank;                // nonzero: a part holds [width][columns] of each linear
    int column_blocks;
    int down_width;
    int down_blocks;            // blocks that form dS
    int f_width;
    int is_input;               // nonzero: gradients are dA, [rank, columns]
    int correction_parts;
    int correction_width;
    int weight_type;
    int bias_type;
    LowRankStack stack;
};

// The sums of a block's threads over their rows, for four columns each from j on.
__device__ __forceinline__ void lowrank_sum_rows(
    const LowRankSumParams& p, const LowRankLinear& linear, float (&means)[4], float (&totals)[4]) {
    __shared__ float sums[SumThreads / 32][2][MostDownWidth];
    int pieces = p.down_width / 4, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int offset = 16; offset >= pieces; offset >>= 1)
#pragma unroll
        for (int k = 0; k < 4; k++) {
            means[k] += __shfl_xor_sync(0xffffffffu, means[k], offset);
            totals[k] += __shfl_xor_sync(0xffffffffu, totals[k], offset);
        }
    __syncthreads();  // for the linear before
    if (lane < pieces)
#pragma unroll
        for (int k = 0; k < 4; k++) sums[warp][0][lane * 4 + k] = means[k], sums[warp][1][lane * 4 + k] = totals[k];
    __syncthreads();
    int which = threadIdx.x / MostDownWidth, column = threadIdx.x % MostDownWidth;
    if (which < 2 && column < linear.width) {
        float sum = 0;
#pragma unroll
        for (int w = 0; w < SumThreads / 32; w++) sum += sums[w][which][column];
        p.sums[((long long)blockIdx.x * 2 + which) * p.f_width + linear.at + column] = sum;
    }
}

template <typename T> __device__ __forceinline__ void lowrank_sum_down(const LowRankSumParams& p) {
    int pieces = p.down_width / 4, rows = SumThreads / pieces, j = threadIdx.x % pieces * 4;
    long long first = (long long)blockIdx.x * rows + threadIdx.x / pieces, step = (long long)p.down_blocks * rows;
#pragma unroll
    for (int i = 0; i < MostLinears; i++) {
        if (i >= p.stack.count) break;
        const LowRankLinear& linear = p.stack.linears[i];
        int end = i + 1 < p.stack.count ? p.stack.linears[i + 1].block : p.column_blocks;
        float means[4] = {0, 0, 0, 0}, totals[4] = {0, 0, 0, 0};
        if (j < linear.width)
            for (long long row = first; row < p.rows; row += step) {
                const float* group = p.down_partial + row / 64 * p.column_blocks * 64 * p.down_width + row % 64 * p.down_width + j;
                float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 8
                for (int b = linear.block; b < end; b++) {
                    float4 part = *(const float4*)(group + (long long)b * 64 * p.down_width);
                    sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
                }
                uint32_t front = pack2<T>(sum.x * linear.scale, sum.y * linear.scale);
                uint32_t back = pack2<T>(sum.z * linear.scale, sum.w * linear.scale);
                uint32_t* to = (uint32_t*)((T*)p.d + row * p.d_stride + linear.at + j);
                to[0] = front, to[1] = back;
                if (!p.f) continue;

                // Of dS as it was rounded.
                float rstd = p.rstd[row], mean = p.mean ? p.mean[row] : 0;
                float2 a = unpack2<T>(front), b = unpack2<T>(back);
                uint2 scaled = make_uint2(pack2<T>(a.x * rstd, a.y * rstd), pack2<T>(b.x * rstd, b.y * rstd));
                *(uint2*)((T*)p.f + row * p.f_width + linear.at + j) = scaled;
                float2 c = unpack2<T>(scaled.x), d = unpack2<T>(scaled.y);
                means[0] += c.x * mean, means[1] += c.y * mean, means[2] += d.x * mean, means[3] += d.y * mean;
                totals[0] += a.x, totals[1] += a.y, totals[2] += b.x, totals[3] += b.y;
            }
        if (p.mean) lowrank_sum_rows(p, linear, means, totals);
    }
}

// dS[:, at]·x̂[:, c] with x̂ = (x − mean)·rstd·w + b, of which F[:, at]·x[:, c] is given.
__device__ __forceinline__ float lowrank_normed(const LowRankSumParams& p, float product, int at, long long c) {
    float mean = 0, total = 0;
    if (p.corrections) {
        const float* from = p.corrections + at;
#pragma unroll 8
        for (int i = 0; i < p.correction_parts; i++, from += 2 * p.correction_width) {
            mean += from[0];
            total += from[p.correction_width];
        }
    }
    float sum = load_any(p.weight, c, p.weight_type) * (product - mean);
    return p.bias ? sum + load_any(p.bias, c, p.bias_type) * total : sum;
}

template <typename T> __device__ __forceinline__ void lowrank_sum(const LowRankSumParams& p) {
    if ((int)blockIdx.x < p.down_blocks) {
        lowrank_sum_down<T>(p);
        return;
    }
    long long e = (long long)(blockIdx.x - p.down_blocks) * blockDim.x + threadIdx.x;
    if (e >= p.count) return;
    float* to = nullptr;
    int at = 0;
    long long own = 0;
#pragma unroll
    for (int i = 0; i < MostLinears; i++) {
        if (i >= p.stack.count) break;
        const LowRankLinear& linear = p.stack.linears[i];
        long long local = e - linear.partial, columns = linear.end - linear.begin;
        if (!linear.gradient || local < 0 || local >= columns * linear.width) continue;
        long long j = p.by_rank ? local / columns : local % linear.width, c = p.by_rank ? local % columns : local / linear.width;
        if (j >= linear.rank) continue;
        to = linear.gradient + (p.is_input ? j * columns + c : c * linear.rank + j);
        at = linear.at + (int)j, own = c;
    }
    if (!to) return;
    const float* from = p.partial + e;
    float before = *to, sum = p.weight ? 0 : before;
    for (int i = 0; i < p.parts; i += SumUnroll) {
        float parts[SumUnroll];
#pragma unroll
        for (int n = 0; n < SumUnroll; n++, from += p.partial_stride)
            if (i + n < p.parts) parts[n] = *from;
#pragma unroll
        for (int n = 0; n < SumUnroll; n++)
            if (i + n < p.parts) sum += parts[n];
    }
    *to = p.weight ? before + lowrank_normed(p, sum, at, own) : sum;
}
