// attention_bwd_kv_d<D>_{bf16,f16} — dv = pᵀ·dO, dk = scale·dsᵀ·q with p = exp(scale·q·kᵀ − lse), ds = p·(dO·vᵀ − delta)
// attention_bwd_q_d<D>_{bf16,f16} — dq = scale·ds·k
// Shapes: as in the forward with Tq = Tk; delta [B,H,T] f32 from attention_bwd_delta.  Outputs strided
// Dtypes: bf16 | f16; f32 sums, p and ds rounded to the dtype as operands.  Arch: sm_80+
// Flops: 10·d for each visible pair by the usual count, 14·d executed.  Bound: tensor cores; 150 to 240 TFLOP/s aimed at on H200
// Algorithm: two kernels instead of one with atomics. The first has 64 keys a block and walks over the queries that see
//   them, head by head of the group, with transposed scores: pᵀ and dsᵀ are then first operands where they lie, in
//   registers. The second has 64 queries a block and walks over their keys. D 256: dk and dv in separate blocks of 32 keys
// Numerics: fixed order, deterministic, no atomics.  Aliasing: outputs overlap nothing
#pragma once
#include "tiles.cuh"

// One tile of queries for the first kernel, as it lies in shared memory.
template <typename T, int D, int Queries> struct QueryStage {
    T q[Queries * TileStride<D>];
    T d_o[Queries * TileStride<D>];
    float lse[Queries];
    float delta[Queries];
    int start[Queries];
};

template <typename T, int D, int Queries, int Threads>
__device__ __forceinline__ void load_queries(
    QueryStage<T, D, Queries>& stage, const AttentionBackwardParams& p, int b, int head, int tile) {
    const AttentionShape& n = p.shape;
    int rows = n.queries - tile;
    load_tile<T, D, Queries, Threads>(
        stage.q, at((const T*)p.q, p.q_strides, b, tile, head), p.q_strides.row, rows, n);
    load_tile<T, D, Queries, Threads>(
        stage.d_o, at((const T*)p.d_o, p.do_strides, b, tile, head), p.do_strides.row, rows, n);
    long long first = ((long long)b * n.heads + head) * n.queries + tile;
    for (int i = threadIdx.x; i < Queries; i += Threads) {
        // Queries beyond the last are zeros with lse = 0: they add p·dO = 0 and p·(0 − 0)·q = 0.
        bool inside = i < rows;
        int j = inside ? i : 0;
        copy_async_4(&stage.lse[i], p.lse + first + j, inside);
        copy_async_4(&stage.delta[i], p.delta + first + j, inside);
        copy_async_4(&stage.start[i], p.key_start + (long long)b * n.queries + tile + j, inside);
    }
}

// Keys: 16·Warps a block. The two flags say which gradients this block computes.
template <typename T, int D, int Warps, int Queries, bool Dk, bool Dv>
__device__ __forceinline__ void backward_keys(const AttentionBackwardParams& p, int block) {
    constexpr int Keys = 16 * Warps, Threads = 32 * Warps;
    T* k_tile = dynamic_shared<T>();
    T* v_tile = k_tile + Keys * TileStride<D>;
    auto* stages = reinterpret_cast<QueryStage<T, D, Queries>*>(v_tile + Keys * TileStride<D>);

    const AttentionShape& n = p.shape;
    TileOfHead place(block, n.batch, n.key_heads);
    int key0 = place.tile * Keys, rows = min(Keys, n.keys - key0), b = place.b, group = n.heads / n.key_heads;
    int head0 = place.head * group, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int* starts = p.key_start + (long long)b * n.queries;

    load_tile<T, D, Keys, Threads>(
        k_tile, at((const T*)p.k, p.k_strides, b, key0, place.head), p.k_strides.row, rows, n);
    load_tile<T, D, Keys, Threads>(
        v_tile, at((const T*)p.v, p.v_strides, b, key0, place.head), p.v_strides.row, rows, n);
    bool all, next_all;
    int tile = next_queries<Queries>(starts, key0, n.queries, key0, key0 + Keys - 1, all), head = head0;
    if (tile < n.queries) load_queries<T, D, Queries, Threads>(stages[0], p, b, head, tile);

    float dk[Dk ? D / 8 : 1][4] = {}, dv[Dv ? D / 8 : 1][4] = {};
    uint32_t k_address = block_address<D>(k_tile + warp * 16 * TileStride<D>);
    uint32_t v_address = block_address<D>(v_tile + warp * 16 * TileStride<D>);
    int at_key = key0 + warp * 16 + (lane >> 2);
    float factor = n.scale * Log2E;

    for (int stage = 0; tile < n.queries; stage ^= 1) {
        wait_for_copies();
        __syncthreads();
        // Every head of the group passes over one tile of queries before the next tile's turn.
        int next = tile, next_head = head + 1;
        next_all = all;
        if (next_head == head0 + group) {
            next_head = head0;
            next = next_queries<Queries>(starts, tile + Queries, n.queries, key0, key0 + Keys - 1, next_all);
        }
        if (next < n.queries) load_queries<T, D, Queries, Threads>(stages[stage ^ 1], p, b, next_head, next);

        const QueryStage<T, D, Queries>& now = stages[stage];
        // In parts of 32 queries: scores and their gradients of 64 would not fit in the registers that three blocks leave.
        constexpr int Part = Queries < 32 ? Queries : 32;
#pragma unroll
        for (int from = 0; from < Queries; from += Part) {
            float s[Part / 8][4];
            multiply_rows<T, D>(s, k_address, column_address<D>(now.q + from * TileStride<D>));
#pragma unroll
            for (int j = 0; j < Part / 8; j++) {
                int i = from + j * 8 + (lane & 3) * 2;
                float shift0 = now.lse[i] * Log2E, shift1 = now.lse[i + 1] * Log2E;
                s[j][0] = exp2_fast(fmaf(s[j][0], factor, -shift0));
                s[j][1] = exp2_fast(fmaf(s[j][1], factor, -shift1));
                s[j][2] = exp2_fast(fmaf(s[j][2], factor, -shift0));
                s[j][3] = exp2_fast(fmaf(s[j][3], factor, -shift1));
                if (!all) {
                    // Also where lse is −∞, because such a query sees no key.
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        int start = now.start[i + e], last = tile + i + e;
                        if (at_key < start || at_key > last) s[j][e] = 0;
                        if (at_key + 8 < start || at_key + 8 > last) s[j][2 + e] = 0;
                    }
                }
            }
            if constexpr (Dv) multiply_add<T, D>(dv, s, block_address<D>(now.d_o + from * TileStride<D>));
            if constexpr (Dk) {
                float ds[Part / 8][4];
                multiply_rows<T, D>(ds, v_address, column_address<D>(now.d_o + from * TileStride<D>));
#pragma unroll
                for (int j = 0; j < Part / 8; j++) {
                    int i = from + j * 8 + (lane & 3) * 2;
                    float delta0 = now.delta[i], delta1 = now.delta[i + 1];
                    ds[j][0] = s[j][0] * (ds[j][0] - delta0);
                    ds[j][1] = s[j][1] * (ds[j][1] - delta1);
                    ds[j][2] = s[j][2] * (ds[j][2] - delta0);
                    ds[j][3] = s[j][3] * (ds[j][3] - delta1);
                }
                multiply_add<T, D>(dk, ds, block_address<D>(now.q + from * TileStride<D>));
            }
        }
        tile = next, head = next_head, all = next_all;
    }

    // A warp reads of the two key tiles its own 16 rows alone, but their copies may still be on the way when no query came.
    wait_for_copies();
    __syncthreads();
    int left = rows - warp * 16, row = key0 + warp * 16;
    if constexpr (Dk)
        store_rows<T, D>(
            k_tile + warp * 16 * TileStride<D>, dk, n.scale, n.scale, at((T*)p.dk, p.dk_strides, b, row, place.head),
            p.dk_strides.row, left, n.dimension, n.vectors);
    if constexpr (Dv)
        store_rows<T, D>(
            v_tile + warp * 16 * TileStride<D>, dv, 1.0f, 1.0f, at((T*)p.dv, p.dv_strides, b, row, place.head),
            p.dv_strides.row, left, n.dimension, n.vectors);
}

template <typename T, int D> __device__ __forceinline__ void attention_backward_kv(const AttentionBackwardParams& p) {
    if constexpr (D <= 128) {
        backward_keys<T, D, 4, D <= 64 ? 64 : 32, true, true>(p, blockIdx.x);
    } else if (blockIdx.x & 1) {
        backward_keys<T, D, 2, 16, true, false>(p, blockIdx.x >> 1);
    } else {
        backward_keys<T, D, 2, 16, false, true>(p, blockIdx.x >> 1);
    }
}

template <typename T, int D> __device__ __forceinline__ void attention_backward_q(const AttentionBackwardParams& p) {
    constexpr int Rows = 64, Threads = 128, Keys = D <= 64 ? 64 : D <= 128 ? 32 : 16, KeyTile = Keys * TileStride<D>;
    T* q_tile = dynamic_shared<T>();
    T* do_tile = q_tile + Rows * TileStride<D>;
    T* k_tiles = do_tile + Rows * TileStride<D>;
    T* v_tiles = k_tiles + 2 * KeyTile;

    const AttentionShape& n = p.shape;
    TileOfHead place(blockIdx.x, n.batch, n.heads);
    int q0 = ((n.queries - 1) / Rows - place.tile) * Rows, rows = min(Rows, n.queries - q0);
    int b = place.b, head = place.head, key_head = head / (n.heads / n.key_heads);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const T* k = at((const T*)p.k, p.k_strides, b, 0, key_head);
    const T* v = at((const T*)p.v, p.v_strides, b, 0, key_head);
    const int* starts = p.key_start + (long long)b * n.queries + q0;
    int key = first_key(starts, rows), end = q0 + rows;

    load_tile<T, D, Rows, Threads>(q_tile, at((const T*)p.q, p.q_strides, b, q0, head), p.q_strides.row, rows, n);
    load_tile<T, D, Rows, Threads>(do_tile, at((const T*)p.d_o, p.do_strides, b, q0, head), p.do_strides.row, rows, n);
    if (key < end) {
        load_tile<T, D, Keys, Threads>(k_tiles, k + key * p.k_strides.row, p.k_strides.row, end - key, n);
        load_tile<T, D, Keys, Threads>(v_tiles, v + key * p.v_strides.row, p.v_strides.row, end - key, n);
    }

    int row = warp * 16 + (lane >> 2);
    bool in0 = row < rows, in1 = row + 8 < rows;
    int low0 = in0 ? max(starts[row], 0) : 0, low1 = in1 ? max(starts[row + 8], 0) : 0;
    int last0 = q0 + row, last1 = last0 + 8;
    int warp_low = __reduce_max_sync(AllLanes, max(low0, low1)), warp_last = q0 + warp * 16;
    long long statistics = ((long long)b * n.heads + head) * n.queries + q0 + row;
    float shift0 = in0 ? p.lse[statistics] * Log2E : 0.0f, shift1 = in1 ? p.lse[statistics + 8] * Log2E : 0.0f;
    float delta0 = in0 ? p.delta[statistics] : 0.0f, delta1 = in1 ? p.delta[statistics + 8] : 0.0f;

    float dq[D / 8][4] = {};
    float factor = n.scale * Log2E;
    uint32_t q_address = block_address<D>(q_tile + warp * 16 * TileStride<D>);
    uint32_t do_address = block_address<D>(do_tile + warp * 16 * TileStride<D>);

    for (int stage = 0; key < end; key += Keys, stage ^= 1) {
        wait_for_copies();
        __syncthreads();
        int next = key + Keys;
        if (next < end) {
            T* k_next = k_tiles + (stage ^ 1) * KeyTile;
            T* v_next = v_tiles + (stage ^ 1) * KeyTile;
            load_tile<T, D, Keys, Threads>(k_next, k + next * p.k_strides.row, p.k_strides.row, end - next, n);
            load_tile<T, D, Keys, Threads>(v_next, v + next * p.v_strides.row, p.v_strides.row, end - next, n);
        }

        float s[Keys / 8][4], ds[Keys / 8][4];
        multiply_rows<T, D>(s, q_address, column_address<D>(k_tiles + stage * KeyTile));
        multiply_rows<T, D>(ds, do_address, column_address<D>(v_tiles + stage * KeyTile));
        bool masked = key < warp_low || key + Keys - 1 > warp_last;
#pragma unroll
        for (int j = 0; j < Keys / 8; j++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float p0 = exp2_fast(fmaf(s[j][e], factor, -shift0)), p1 = exp2_fast(fmaf(s[j][2 + e], factor, -shift1));
                if (masked) {
                    int at_key = key + (lane & 3) * 2 + j * 8 + e;
                    if (at_key < low0 || at_key > last0) p0 = 0;
                    if (at_key < low1 || at_key > last1) p1 = 0;
                }
                ds[j][e] = p0 * (ds[j][e] - delta0);
                ds[j][2 + e] = p1 * (ds[j][2 + e] - delta1);
            }
        }
        multiply_add<T, D>(dq, ds, block_address<D>(k_tiles + stage * KeyTile));
    }

    wait_for_copies();
    __syncthreads();
    store_rows<T, D>(
        q_tile + warp * 16 * TileStride<D>, dq, n.scale, n.scale, at((T*)p.dq, p.dq_strides, b, q0 + warp * 16, head),
        p.dq_strides.row, rows - warp * 16, n.dimension, n.vectors);
}
