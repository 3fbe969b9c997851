// lowrank_sum — adds the partial sums of lowrank_grad_y and lowrank_grad_x to dB and dA
// Shapes: partial [parts][columns][width] of each linear for dB, [parts][R][K] for dA; gradients f32 without gaps
// Bytes: parts·C·R·4, from the L2 cache as a rule.  Algorithm: a thread adds one element's parts in order
// Numerics: deterministic, f32
#pragma once
#include "params.cuh"

struct LowRankSumParams {
    const float* partial;
    long long partial_stride;  // floats of a part
    long long count;           // elements
    int parts;
    int inputs;                // K for dA, 0 for dB
    LowRankStack stack;
};

__device__ __forceinline__ void lowrank_add_parts(const LowRankSumParams& p) {
    long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= p.count) return;
    float* to = nullptr;
#pragma unroll
    for (int i = 0; i < MostLinears; i++) {
        if (i >= p.stack.count) break;
        const LowRankLinear& linear = p.stack.linears[i];
        if (p.inputs > 0) {
            int j = (int)(e / p.inputs) - linear.at;
            if (linear.gradient && j >= 0 && j < linear.rank) to = linear.gradient + (long long)j * p.inputs + e % p.inputs;
        } else {
            long long local = e - linear.partial;
            if (linear.gradient && local >= 0 && local < (long long)(linear.end - linear.begin) * linear.width) {
                int j = (int)(local % linear.width);
                if (j < linear.rank) to = linear.gradient + local / linear.width * linear.rank + j;
            }
        }
    }
    if (!to) return;
    const float* from = p.partial + e;
    float sum = *to;
    int i = 0;
    for (; i + 4 <= p.parts; i += 4, from += 4 * p.partial_stride) {
        float a = from[0], b = from[p.partial_stride], c = from[2 * p.partial_stride], d = from[3 * p.partial_stride];
        sum += a;
        sum += b;
        sum += c;
        sum += d;
    }
    for (; i < p.parts; i++, from += p.partial_stride) sum += *from;
    *to = sum;
}
