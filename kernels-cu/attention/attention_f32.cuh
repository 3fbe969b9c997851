// attention_fwd_d<D>_f32, attention_bwd_kv_d<D>_f32, attention_bwd_q_d<D>_f32 — the same functions in full f32
// Shapes: as in attention_fwd.cuh and attention_bwd.cuh.  Dtypes: f32 throughout, no TF32.  Arch: sm_80+
// Flops: 4·d for each visible pair forward, 14·d executed backward.  Bound: FP32 units and shared memory; no figure aimed at
// Algorithm: the tiling of the tensor-core kernels with 16 threads a row group of 4: a thread computes 4 rows × every 16th
//   score and 4 rows × D/16 outputs; probabilities pass through shared memory within a warp
// Numerics: fixed order, deterministic.  Aliasing: outputs overlap nothing
#pragma once
#include "../common/mma.cuh"
#include "params.cuh"

// A tile [rows][D] in shared memory has rows of D + 4 floats: 16-byte accesses of neighbouring rows hit different banks.
template <int D> constexpr int FloatStride = D + 4;

template <int D> struct FloatTiles {
    static constexpr int Forward = D <= 128 ? 64 : 32;   // queries of a block and keys of a tile
    static constexpr int Backward = D <= 128 ? 32 : 16;  // the same in the backward
};

template <int D, int Rows, int Threads>
__device__ __forceinline__ void load_floats(float* tile, const float* from, long long stride, int rows, int columns, bool vectors) {
    if (vectors) {
        for (int i = threadIdx.x; i < Rows * (D / 4); i += Threads) {
            int row = i / (D / 4), c = i % (D / 4) * 4;
            bool inside = row < rows && c < columns;
            float4 x = inside ? *reinterpret_cast<const float4*>(from + row * stride + c) : make_float4(0, 0, 0, 0);
            *reinterpret_cast<float4*>(tile + row * FloatStride<D> + c) = x;
        }
        return;
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < Rows * D; i += Threads) {
        int row = i / D, c = i % D;
        tile[row * FloatStride<D> + c] = row < rows && c < columns ? from[row * stride + c] : 0.0f;
    }
}

// s[r][j] = a[r]·b[16·j]: a points at the thread's first of 4 rows, b at its first of every 16th row.
template <int D, int N> __device__ __forceinline__ void dot_rows(float (&s)[4][N], const float* a, const float* b) {
#pragma unroll
    for (int r = 0; r < 4; r++) {
#pragma unroll
        for (int j = 0; j < N; j++) s[r][j] = 0;
    }
#pragma unroll 4
    for (int d = 0; d < D; d += 4) {
        float4 x[4];
#pragma unroll
        for (int r = 0; r < 4; r++) x[r] = *reinterpret_cast<const float4*>(a + r * FloatStride<D> + d);
#pragma unroll
        for (int j = 0; j < N; j++) {
            float4 y = *reinterpret_cast<const float4*>(b + 16 * j * FloatStride<D> + d);
#pragma unroll
            for (int r = 0; r < 4; r++) {
                s[r][j] = fmaf(x[r].x, y.x, s[r][j]);
                s[r][j] = fmaf(x[r].y, y.y, s[r][j]);
                s[r][j] = fmaf(x[r].z, y.z, s[r][j]);
                s[r][j] = fmaf(x[r].w, y.w, s[r][j]);
            }
        }
    }
}

// A thread's columns: runs of W, 16·W apart.
template <int D> constexpr int FloatRun = D % 64 == 0 ? 4 : 2;

// c[r] += Σ_j p[r][j]·b[j]: p points at the thread's first of 4 rows of 16·N + 4 floats, b at column 0 of the tile.
template <int D, int N> __device__ __forceinline__ void add_rows(float (&c)[4][D / 16], const float* p, const float* b) {
    constexpr int W = FloatRun<D>, Stride = 16 * N + 4;
    b += (threadIdx.x & 15) * W;
#pragma unroll 1
    for (int j = 0; j < 16 * N; j += 4) {
        float x[4][4];
#pragma unroll
        for (int r = 0; r < 4; r++) *reinterpret_cast<float4*>(x[r]) = *reinterpret_cast<const float4*>(p + r * Stride + j);
#pragma unroll
        for (int e = 0; e < 4; e++) {
#pragma unroll
            for (int i = 0; i < D / 16; i += W) {
                float y[W];
                const float* from = b + (j + e) * FloatStride<D> + i * 16;
                if constexpr (W == 4) *reinterpret_cast<float4*>(y) = *reinterpret_cast<const float4*>(from);
                else *reinterpret_cast<float2*>(y) = *reinterpret_cast<const float2*>(from);
#pragma unroll
                for (int r = 0; r < 4; r++) {
#pragma unroll
                    for (int w = 0; w < W; w++) c[r][i + w] = fmaf(x[r][e], y[w], c[r][i + w]);
                }
            }
        }
    }
}

template <int D> __device__ __forceinline__ void store_floats(const float (&c)[D / 16], float factor, float* row, int columns) {
    constexpr int W = FloatRun<D>;
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
        int column = (threadIdx.x & 15) * W + i / W * 16 * W + i % W;
        if (column < columns) row[column] = c[i] * factor;
    }
}

// The 16 threads of a row group exchange numbers; a warp holds two groups.
__device__ __forceinline__ float group_max(float x) {
#pragma unroll
    for (int d = 8; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(AllLanes, x, d));
    return x;
}

__device__ __forceinline__ float group_sum(float x) {
#pragma unroll
    for (int d = 8; d > 0; d /= 2) x += __shfl_xor_sync(AllLanes, x, d);
    return x;
}

template <int D> __device__ __forceinline__ void attention_forward_f32(const AttentionForwardParams& p) {
    constexpr int Rows = FloatTiles<D>::Forward, Keys = Rows, Threads = 4 * Rows, N = Keys / 16;
    float* q_tile = dynamic_shared<float>();
    float* tile = q_tile + Rows * FloatStride<D>;
    float* scores = tile + Keys * FloatStride<D>;

    const AttentionShape& n = p.shape;
    const auto [b, head, key_head, q0, rows] = QueriesOfHead<Rows>(n);
    int column = threadIdx.x & 15, row = (threadIdx.x >> 4) * 4;
    const float* k = at((const float*)p.k, p.k_strides, b, 0, key_head);
    const float* v = at((const float*)p.v, p.v_strides, b, 0, key_head);
    const int* starts = p.key_start + (long long)b * n.queries + q0;
    int key = first_key(starts, rows), end = n.query_offset + q0 + rows;
    load_floats<D, Rows, Threads>(
        q_tile, at((const float*)p.q, p.q_strides, b, q0, head), p.q_strides.row, rows, n.dimension, n.vectors);

    float o[4][D / 16] = {}, maximum[4], sum[4];
    int low[4];
#pragma unroll
    for (int r = 0; r < 4; r++) {
        maximum[r] = -INFINITY;
        sum[r] = 0;
        low[r] = row + r < rows ? max(starts[row + r], 0) : 0;
    }
    float* mine = scores + row * (Keys + 4);
    for (; key < end; key += Keys) {
        __syncthreads();
        load_floats<D, Keys, Threads>(tile, k + key * p.k_strides.row, p.k_strides.row, end - key, n.dimension, n.vectors);
        __syncthreads();
        float s[4][N];
        dot_rows<D>(s, q_tile + row * FloatStride<D>, tile + column * FloatStride<D>);
#pragma unroll
        for (int r = 0; r < 4; r++) {
            int last = n.query_offset + q0 + row + r;
            float most = maximum[r];
#pragma unroll
            for (int j = 0; j < N; j++) {
                int at_key = key + column + 16 * j;
                s[r][j] = at_key < low[r] || at_key > last ? -INFINITY : s[r][j] * n.scale;
                most = fmaxf(most, s[r][j]);
            }
            most = group_max(most);
            // While a row has seen no key its maximum is −∞, and −∞ − (−∞) is NaN: subtract 0 instead.
            float shift = most == -INFINITY ? 0.0f : most, correction = expf(maximum[r] - shift);
            maximum[r] = most;
            sum[r] *= correction;
#pragma unroll
            for (int j = 0; j < N; j++) {
                float e = expf(s[r][j] - shift);
                sum[r] += e;
                mine[r * (Keys + 4) + column + 16 * j] = e;
            }
#pragma unroll
            for (int i = 0; i < D / 16; i++) o[r][i] *= correction;
        }
        __syncthreads();
        load_floats<D, Keys, Threads>(tile, v + key * p.v_strides.row, p.v_strides.row, end - key, n.dimension, n.vectors);
        __syncthreads();
        add_rows<D, N>(o, mine, tile);
    }
#pragma unroll
    for (int r = 0; r < 4; r++) sum[r] = group_sum(sum[r]);
#pragma unroll
    for (int r = 0; r < 4; r++) {
        if (row + r >= rows) break;
        float total = sum[r];
        store_floats<D>(o[r], total == 0 ? 0.0f : 1 / total, at((float*)p.o, p.o_strides, b, q0 + row + r, head), n.dimension);
        if (p.lse && column == 0)
            p.lse[((long long)b * n.heads + head) * n.queries + q0 + row + r] = total == 0 ? -INFINITY : maximum[r] + logf(total);
    }
}

template <int D> __device__ __forceinline__ void attention_backward_kv_f32(const AttentionBackwardParams& p) {
    constexpr int Rows = FloatTiles<D>::Backward, Queries = Rows, Threads = 4 * Rows, N = Queries / 16, Stride = Queries + 4;
    float* k_tile = dynamic_shared<float>();
    float* v_tile = k_tile + Rows * FloatStride<D>;
    float* q_tile = v_tile + Rows * FloatStride<D>;
    float* do_tile = q_tile + Queries * FloatStride<D>;
    float* scores = do_tile + Queries * FloatStride<D>;

    const AttentionShape& n = p.shape;
    TileOfHead place(blockIdx.x, n.batch, n.key_heads);
    int key0 = place.tile * Rows, rows = min(Rows, n.keys - key0), b = place.b, group = n.heads / n.key_heads;
    int column = threadIdx.x & 15, row = (threadIdx.x >> 4) * 4;
    const int* starts = p.key_start + (long long)b * n.queries;
    load_floats<D, Rows, Threads>(
        k_tile, at((const float*)p.k, p.k_strides, b, key0, place.head), p.k_strides.row, rows, n.dimension, n.vectors);
    load_floats<D, Rows, Threads>(
        v_tile, at((const float*)p.v, p.v_strides, b, key0, place.head), p.v_strides.row, rows, n.dimension, n.vectors);

    float dk[4][D / 16] = {}, dv[4][D / 16] = {};
    float* mine = scores + row * Stride;
    float* mine_ds = mine + Rows * Stride;
    bool all;
    int tile = key0;
    while ((tile = next_queries<Queries>(starts, tile, n.queries, key0, key0 + Rows - 1, all)) < n.queries) {
        for (int head = place.head * group; head < (place.head + 1) * group; head++) {
            __syncthreads();
            load_floats<D, Queries, Threads>(
                q_tile, at((const float*)p.q, p.q_strides, b, tile, head), p.q_strides.row, n.queries - tile, n.dimension, n.vectors);
            load_floats<D, Queries, Threads>(
                do_tile, at((const float*)p.d_o, p.do_strides, b, tile, head), p.do_strides.row, n.queries - tile, n.dimension, n.vectors);
            __syncthreads();
            float s[4][N], ds[4][N];
            dot_rows<D>(s, k_tile + row * FloatStride<D>, q_tile + column * FloatStride<D>);
            dot_rows<D>(ds, v_tile + row * FloatStride<D>, do_tile + column * FloatStride<D>);
            const float* lse = p.lse + ((long long)b * n.heads + head) * n.queries;
            const float* delta = p.delta + ((long long)b * n.heads + head) * n.queries;
#pragma unroll
            for (int j = 0; j < N; j++) {
                int i = tile + column + 16 * j;
                bool inside = i < n.queries;
                int start = inside ? starts[i] : MostInt;
                float l = inside ? lse[i] : 0.0f, d = inside ? delta[i] : 0.0f;
#pragma unroll
                for (int r = 0; r < 4; r++) {
                    int at_key = key0 + row + r;
                    float e = at_key < start || at_key > i ? 0.0f : expf(s[r][j] * n.scale - l);
                    mine[r * Stride + column + 16 * j] = e;
                    mine_ds[r * Stride + column + 16 * j] = e * (ds[r][j] - d);
                }
            }
            __syncwarp();
            add_rows<D, N>(dv, mine, do_tile);
            add_rows<D, N>(dk, mine_ds, q_tile);
        }
        tile += Queries;
    }
#pragma unroll
    for (int r = 0; r < 4; r++) {
        if (row + r >= rows) break;
        store_floats<D>(dk[r], n.scale, at((float*)p.dk, p.dk_strides, b, key0 + row + r, place.head), n.dimension);
        store_floats<D>(dv[r], 1.0f, at((float*)p.dv, p.dv_strides, b, key0 + row + r, place.head), n.dimension);
    }
}

template <int D> __device__ __forceinline__ void attention_backward_q_f32(const AttentionBackwardParams& p) {
    constexpr int Rows = FloatTiles<D>::Backward, Keys = Rows, Threads = 4 * Rows, N = Keys / 16, Stride = Keys + 4;
    float* q_tile = dynamic_shared<float>();
    float* do_tile = q_tile + Rows * FloatStride<D>;
    float* k_tile = do_tile + Rows * FloatStride<D>;
    float* v_tile = k_tile + Keys * FloatStride<D>;
    float* scores = v_tile + Keys * FloatStride<D>;

    const AttentionShape& n = p.shape;
    const auto [b, head, key_head, q0, rows] = QueriesOfHead<Rows>(n);
    int column = threadIdx.x & 15, row = (threadIdx.x >> 4) * 4;
    const float* k = at((const float*)p.k, p.k_strides, b, 0, key_head);
    const float* v = at((const float*)p.v, p.v_strides, b, 0, key_head);
    const int* starts = p.key_start + (long long)b * n.queries + q0;
    int key = first_key(starts, rows), end = q0 + rows;
    load_floats<D, Rows, Threads>(
        q_tile, at((const float*)p.q, p.q_strides, b, q0, head), p.q_strides.row, rows, n.dimension, n.vectors);
    load_floats<D, Rows, Threads>(
        do_tile, at((const float*)p.d_o, p.do_strides, b, q0, head), p.do_strides.row, rows, n.dimension, n.vectors);

    float dq[4][D / 16] = {}, lse[4], delta[4];
    int low[4];
#pragma unroll
    for (int r = 0; r < 4; r++) {
        bool inside = row + r < rows;
        long long i = ((long long)b * n.heads + head) * n.queries + q0 + row + r;
        low[r] = inside ? max(starts[row + r], 0) : MostInt;
        lse[r] = inside ? p.lse[i] : 0.0f;
        delta[r] = inside ? p.delta[i] : 0.0f;
    }
    float* mine = scores + row * Stride;
    for (; key < end; key += Keys) {
        __syncthreads();
        load_floats<D, Keys, Threads>(k_tile, k + key * p.k_strides.row, p.k_strides.row, end - key, n.dimension, n.vectors);
        load_floats<D, Keys, Threads>(v_tile, v + key * p.v_strides.row, p.v_strides.row, end - key, n.dimension, n.vectors);
        __syncthreads();
        float s[4][N], ds[4][N];
        dot_rows<D>(s, q_tile + row * FloatStride<D>, k_tile + column * FloatStride<D>);
        dot_rows<D>(ds, do_tile + row * FloatStride<D>, v_tile + column * FloatStride<D>);
#pragma unroll
        for (int r = 0; r < 4; r++) {
#pragma unroll
            for (int j = 0; j < N; j++) {
                int at_key = key + column + 16 * j;
                bool visible = at_key >= low[r] && at_key <= q0 + row + r;
                mine[r * Stride + column + 16 * j] = visible ? expf(s[r][j] * n.scale - lse[r]) * (ds[r][j] - delta[r]) : 0.0f;
            }
        }
        __syncwarp();
        add_rows<D, N>(dq, mine, k_tile);
    }
#pragma unroll
    for (int r = 0; r < 4; r++) {
        if (row + r >= rows) break;
        store_floats<D>(dq[r], n.scale, at((float*)p.dq, p.dq_strides, b, q0 + row + r, head), n.dimension);
    }
}
