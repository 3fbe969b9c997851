// attention_bwd_delta_f32 — delta[b,h,i] = Σ_d dO[b,i,h,d]·o[b,i,h,d]
// Shapes: dO, o [B,T,H,d], strides free but that of d; delta [B,H,T] f32
// Dtypes: f32 throughout; for 16-bit types attention_bwd_q computes it.  Arch: sm_80+
// Bytes: 8·B·T·H·d + 4·B·T·H.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: as many lanes a row as it has 16-byte pieces (a power of two, at most 32), rows in the order of memory
// Numerics: fixed reduction order, deterministic.  Aliasing: none
#pragma once
#include "pieces.cuh"

__device__ __forceinline__ void attention_delta(const AttentionBackwardParams& p) {
    constexpr int N = Pack<float>::N;
    const AttentionShape& n = p.shape;
    int lanes = 1;
    while (lanes < 32 && lanes * N < n.dimension) lanes *= 2;
    long long row = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / lanes, rows = (long long)n.batch * n.queries * n.heads;
    int lane = threadIdx.x & (lanes - 1);
    bool inside = row < rows;
    long long position = inside ? row / n.heads : 0;
    int head = inside ? (int)(row - position * n.heads) : 0, b = (int)(position / n.queries), i = (int)(position - (long long)b * n.queries);
    const float* d_o = at((const float*)p.d_o, p.do_strides, b, i, head);
    const float* o = at((const float*)p.o, p.o_strides, b, i, head);
    float sum = 0;
    if (inside) {
        for (int c = lane * N; c < n.dimension; c += lanes * N) {
            float x[N], y[N];
            load_piece(d_o, c, n.dimension, n.vectors, x);
            load_piece(o, c, n.dimension, n.vectors, y);
#pragma unroll
            for (int e = 0; e < N; e++) sum += x[e] * y[e];
        }
    }
    for (int d = lanes / 2; d > 0; d /= 2) sum += __shfl_xor_sync(AllLanes, sum, d);
    if (inside && lane == 0) p.delta[((long long)b * n.heads + head) * n.queries + i] = sum;
}
