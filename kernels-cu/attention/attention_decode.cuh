// attention_decode_d<D>_{f32,bf16,f16} — the forward for a few queries and many keys: a block takes one range of the keys
// attention_combine_{f32,bf16,f16} — o = Σ_s e^(m_s − m)·acc_s ∕ Σ_s e^(m_s − m)·l_s over the ranges, m = max_s m_s
// Shapes: q, o [B,Tq,H,d]; k, v [B,capacity,Hkv,d], d <= D, strides free but that of d.  The grid follows from the
//   capacity; blocks whose range begins behind the keys held return at once, so a recorded launch serves every length
// Dtypes: f32 | bf16 | f16, all arithmetic in f32.  Arch: sm_80+
// Bytes: 2·B·length·Hkv·d·e.  Bound: memory, target >= 80% of read bandwidth from 256 blocks' worth of keys on
// Algorithm: up to 8 query rows that share a key/value head (a group's heads, a few queries) read each key once; a key's
//   16-byte pieces lie in neighbouring lanes; scores of 128 keys pass through shared memory, the softmax is online
// Numerics: the ranges and all orders depend on shapes alone: deterministic.  Aliasing: none
#pragma once
#include "../common/reduce.cuh"
#include "pieces.cuh"

constexpr int DecodeRows = 8, DecodeThreads = 128, DecodeKeys = 128, DecodeMostSplits = 256;

template <typename T, int D> __device__ __forceinline__ void attention_decode(const AttentionDecodeParams& p) {
    constexpr int N = Pack<T>::N, Lanes = D / N < 32 ? D / N : 32, Pieces = D / N / Lanes, Slots = DecodeThreads / Lanes;
    constexpr int Warps = DecodeThreads / 32, Unroll = Pieces == 1 ? 4 : 2;
    __shared__ __align__(16) float queries[DecodeRows][D];
    __shared__ float scores[DecodeRows][DecodeKeys];
    __shared__ float corrections[DecodeRows], maxima[DecodeRows], sums[DecodeRows];
    __shared__ __align__(16) float outputs[Warps][DecodeRows][D];

    const AttentionShape& n = p.shape;
    int group = n.heads / n.key_heads, all_rows = group * n.queries, row_groups = (all_rows + DecodeRows - 1) / DecodeRows;
    int split = blockIdx.x % p.splits, rest = blockIdx.x / p.splits;
    int row0 = rest % row_groups * DecodeRows, rows = min(DecodeRows, all_rows - row0);
    rest /= row_groups;
    int key_head = rest % n.key_heads, b = rest / n.key_heads;
    int offset = p.length ? p.length[0] - n.queries : n.query_offset, end = min(n.keys, offset + n.queries);
    int from = split * p.split_keys;
    if (from >= end && p.splits > 1) return;
    const int* starts = p.key_start + (long long)b * n.queries;
    end = min(end, from + p.split_keys);
    from = max(from, first_key(starts, n.queries));

    // Row r of the block is query (row0 + r) mod queries of head key_head·group + (row0 + r) ∕ queries.
    for (int i = threadIdx.x; i < DecodeRows * D; i += DecodeThreads) {
        int r = i / D, c = i % D, row = row0 + r;
        bool inside = r < rows && c < n.dimension;
        const T* q = (const T*)p.q;
        if (inside) q = at(q, p.q_strides, b, row % n.queries, key_head * group + row / n.queries);
        queries[r][c] = inside ? to_float(q[c]) * n.scale : 0.0f;
    }
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, slot = threadIdx.x / Lanes, piece = threadIdx.x % Lanes * N;
    const T* k = at((const T*)p.k, p.k_strides, b, 0, key_head);
    const T* v = at((const T*)p.v, p.v_strides, b, 0, key_head);
    float acc[DecodeRows][Pieces][N] = {};
    float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};  // of rows warp and warp + 4
    __syncthreads();

    for (; from < end; from += DecodeKeys) {
        int count = min(DecodeKeys, end - from);
        for (int j0 = slot; j0 < DecodeKeys && j0 - slot < count; j0 += Slots * Unroll) {
            float x[Unroll][Pieces][N];
#pragma unroll
            for (int u = 0; u < Unroll; u++) {
                int j = min(j0 + u * Slots, count - 1);
#pragma unroll
                for (int i = 0; i < Pieces; i++)
                    load_piece(k + (from + j) * p.k_strides.row, piece + i * Lanes * N, n.dimension, n.vectors, x[u][i]);
            }
#pragma unroll
            for (int r = 0; r < DecodeRows; r++) {
                if (r >= rows) break;
                float s[Unroll] = {};
#pragma unroll
                for (int i = 0; i < Pieces; i++) {
                    float q[N];
#pragma unroll
                    for (int e = 0; e < N; e += 4)
                        *reinterpret_cast<float4*>(q + e) = *reinterpret_cast<const float4*>(&queries[r][piece + i * Lanes * N + e]);
#pragma unroll
                    for (int u = 0; u < Unroll; u++) {
#pragma unroll
                        for (int e = 0; e < N; e++) s[u] = fmaf(q[e], x[u][i][e], s[u]);
                    }
                }
#pragma unroll
                for (int u = 0; u < Unroll; u++) {
#pragma unroll
                    for (int d = Lanes / 2; d > 0; d /= 2) s[u] += __shfl_xor_sync(AllLanes, s[u], d);
                    if (piece == 0 && j0 + u * Slots < count) scores[r][j0 + u * Slots] = s[u];
                }
            }
        }
        __syncthreads();

#pragma unroll
        for (int half = 0; half < 2; half++) {
            int r = warp + half * Warps;
            if (r >= rows) break;
            int query = (row0 + r) % n.queries, low = starts[query], last = offset + query;
            float s[DecodeKeys / 32], most = maximum[half];
#pragma unroll
            for (int i = 0; i < DecodeKeys / 32; i++) {
                int j = i * 32 + lane, key = from + j;
                s[i] = j < count && key >= low && key <= last ? scores[r][j] : -INFINITY;
                most = fmaxf(most, s[i]);
            }
            most = warp_max(most);
            // While a row has seen no key its maximum is −∞, and −∞ − (−∞) is NaN: subtract 0 instead.
            float shift = most == -INFINITY ? 0.0f : most, correction = expf(maximum[half] - shift), total = 0;
#pragma unroll
            for (int i = 0; i < DecodeKeys / 32; i++) {
                float e = expf(s[i] - shift);
                scores[r][i * 32 + lane] = e;
                total += e;
            }
            maximum[half] = most;
            sum[half] = sum[half] * correction + warp_sum(total);
            if (lane == 0) corrections[r] = correction;
        }
        __syncthreads();

#pragma unroll
        for (int r = 0; r < DecodeRows; r++) {
            if (r >= rows) break;
#pragma unroll
            for (int i = 0; i < Pieces; i++) {
#pragma unroll
                for (int e = 0; e < N; e++) acc[r][i][e] *= corrections[r];
            }
        }
        for (int j0 = slot; j0 < count; j0 += Slots * Unroll) {
            float x[Unroll][Pieces][N];
#pragma unroll
            for (int u = 0; u < Unroll; u++) {
                int j = min(j0 + u * Slots, count - 1);
#pragma unroll
                for (int i = 0; i < Pieces; i++)
                    load_piece(v + (from + j) * p.v_strides.row, piece + i * Lanes * N, n.dimension, n.vectors, x[u][i]);
            }
#pragma unroll
            for (int u = 0; u < Unroll; u++) {
                int j = j0 + u * Slots;
                if (j >= count) break;
#pragma unroll
                for (int r = 0; r < DecodeRows; r++) {
                    if (r >= rows) break;
                    float e = scores[r][j];
#pragma unroll
                    for (int i = 0; i < Pieces; i++) {
#pragma unroll
                        for (int c = 0; c < N; c++) acc[r][i][c] = fmaf(e, x[u][i][c], acc[r][i][c]);
                    }
                }
            }
        }
        __syncthreads();
    }

    // The slots' sums: those of a warp by a butterfly, then the warps in order.
#pragma unroll
    for (int r = 0; r < DecodeRows; r++) {
        if (r >= rows) break;
#pragma unroll
        for (int i = 0; i < Pieces; i++) {
#pragma unroll
            for (int c = 0; c < N; c++) {
                float x = acc[r][i][c];
#pragma unroll
                for (int d = Lanes; d < 32; d *= 2) x += __shfl_xor_sync(AllLanes, x, d);
                if (lane < Lanes) outputs[warp][r][piece + i * Lanes * N + c] = x;
            }
        }
    }
    if (lane == 0) {
        maxima[warp] = maximum[0], maxima[warp + Warps] = maximum[1];
        sums[warp] = sum[0], sums[warp + Warps] = sum[1];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < rows * D; i += DecodeThreads) {
        int r = i / D, c = i % D, row = row0 + r, query = row % n.queries, head = key_head * group + row / n.queries;
        float x = outputs[0][r][c];
#pragma unroll
        for (int w = 1; w < Warps; w++) x += outputs[w][r][c];
        long long place = ((long long)b * n.heads + head) * n.queries + query;
        if (p.splits == 1) {
            if (c < n.dimension)
                at((T*)p.o, p.o_strides, b, query, head)[c] = from_float<T>(sums[r] == 0 ? 0.0f : x / sums[r]);
            if (c == 0 && p.lse) p.lse[place] = sums[r] == 0 ? -INFINITY : maxima[r] + logf(sums[r]);
        } else {
            place = place * p.splits + split;
            if (c < p.columns) p.sums[place * p.columns + c] = x;
            if (c == 0) p.statistics[2 * place] = maxima[r], p.statistics[2 * place + 1] = sums[r];
        }
    }
}

// One block for each row of o; a warp adds every eighth range, then the warps' sums are added in order.
template <typename T> __device__ __forceinline__ void attention_combine(const AttentionDecodeParams& p) {
    constexpr int Warps = 8, Most = 256;
    __shared__ float shared[33], weights[DecodeMostSplits];
    __shared__ __align__(16) float outputs[Warps][Most];
    const AttentionShape& n = p.shape;
    int query = blockIdx.x % n.queries, pair = blockIdx.x / n.queries, head = pair % n.heads, b = pair / n.heads;
    int end = min(n.keys, p.length ? p.length[0] : n.query_offset + n.queries);
    int splits = min(p.splits, (end + p.split_keys - 1) / p.split_keys);  // the others have written nothing
    const float* statistics = p.statistics + 2LL * blockIdx.x * p.splits;
    const float* sums = p.sums + (long long)blockIdx.x * p.splits * p.columns;

    int i = threadIdx.x;
    float m = i < splits ? statistics[2 * i] : -INFINITY, most = block_max(m, shared);
    float weight = m == -INFINITY ? 0.0f : expf(m - most);
    weights[i] = weight;
    float total = block_sum(i < splits ? weight * statistics[2 * i + 1] : 0.0f, shared);

    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int c = lane * 4; c < p.columns; c += 128) {
        float4 x = make_float4(0, 0, 0, 0);
#pragma unroll 4
        for (int s = warp; s < splits; s += Warps) {
            float w = weights[s];
            float4 y = *reinterpret_cast<const float4*>(sums + (long long)s * p.columns + c);
            x.x = fmaf(w, y.x, x.x), x.y = fmaf(w, y.y, x.y), x.z = fmaf(w, y.z, x.z), x.w = fmaf(w, y.w, x.w);
        }
        *reinterpret_cast<float4*>(&outputs[warp][c]) = x;
    }
    __syncthreads();
    T* o = at((T*)p.o, p.o_strides, b, query, head);
    for (int c = threadIdx.x; c < n.dimension; c += blockDim.x) {
        float x = outputs[0][c];
#pragma unroll
        for (int w = 1; w < Warps; w++) x += outputs[w][c];
        o[c] = from_float<T>(total == 0 ? 0.0f : x / total);
    }
    if (p.lse && threadIdx.x == 0) p.lse[blockIdx.x] = total == 0 ? -INFINITY : most + logf(total);
}
