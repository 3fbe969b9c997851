// attention_fwd_d<D>_{bf16,f16} — o = softmax(scale·q·kᵀ)·v over the visible keys; saves lse = ln Σ_j exp(s[i,j])
// Shapes: q, o [B,Tq,H,d]; k, v [B,Tk,Hkv,d], d <= D, strides free but that of d; any alignment (16 bytes is the fast one)
// Dtypes: bf16 | f16; scores, softmax and sums f32, probabilities rounded to the dtype for the second product.  Arch: sm_80+
// Flops: 4·d for each visible pair.  Bound: tensor cores; 190 (D 64) to 290 (D 128) TFLOP/s aimed at on H200
// Algorithm: FlashAttention-2 (Dao 2023): a warp has tiles of 16 queries, 64 rows apart; K and V tiles come by cp.async into
//   two stages, one barrier a tile; scores, probabilities and outputs stay in registers; tiles that nobody sees are skipped,
//   and the mask is applied where it cuts through a tile. Exponents are taken from a maximum that lags behind the true one
//   by up to 2^8 (MaximumLag), so that outputs are seldom rescaled
// Numerics: fixed order, deterministic; a row's result does not depend on other rows.  Aliasing: none
// Versions: v1, 64 queries a block, a maximum for each tile: 95 µs, 182 TFLOP/s, at 8×1024, 16 heads, D 64, causal (H200); v2 80 µs, 214 TFLOP/s
//   there, 333 at 2×4096, 32/8 heads, D 128 (H100, 2026-11-27)
#pragma once
#include "tiles.cuh"

// What a warp keeps of its rows: M tiles of 16, the rows g and g + 8 of each in a lane.
template <typename T, int D> struct ForwardRows {
    static constexpr int M = ForwardTiles<D>::M, Keys = ForwardTiles<D>::Keys;

    float o[M][D / 8][4] = {};
    float shift[M][2], sum[M][2] = {};  // shift: what exponents are reduced by, in units of log 2; −∞ before the first key
    float factor;                       // > 0: scores times this are exponents of 2
    std::conditional_t<ForwardTiles<D>::InRegisters, HeldRows<D, M>, SharedRows<D, M>> q;
    int last, low[M][2];  // row g of tile m sees the keys low[m][0] to last + 64·m, row g + 8 low[m][1] to last + 64·m + 8

    // The row tiles from First on pass over Keys keys from `key` on.
    template <bool Masked, int First> __device__ __forceinline__ void pass(int key, const T* k_tile, const T* v_tile) {
        float s[M][Keys / 8][4];
        multiply_rows<T, D, First, M>(s, q, column_address<D>(k_tile));
        if constexpr (Masked) {
            int column = key + (threadIdx.x & 3) * 2;
#pragma unroll
            for (int m = First; m < M; m++) {
#pragma unroll
                for (int i = 0; i < Keys / 2; i++) {
                    int h = i >> 1 & 1, at_key = column + (i >> 2) * 8 + (i & 1);
                    if (at_key < low[m][h] || at_key > last + 64 * m + 8 * h) s[m][i >> 2][i & 3] = -INFINITY;
                }
            }
        }

        float highest[M][2];
        bool lags = false;
#pragma unroll
        for (int m = First; m < M; m++) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float most = fmaxf(s[m][0][2 * h], s[m][0][2 * h + 1]);
#pragma unroll
                for (int j = 1; j < Keys / 8; j++) most = fmaxf(most, fmaxf(s[m][j][2 * h], s[m][j][2 * h + 1]));
                most = fmaxf(most, __shfl_xor_sync(AllLanes, most, 1));
                most = fmaxf(most, __shfl_xor_sync(AllLanes, most, 2));
                highest[m][h] = most * factor;
                lags |= highest[m][h] > shift[m][h] + MaximumLag;
            }
        }
        if (__any_sync(AllLanes, lags)) {
#pragma unroll
            for (int m = First; m < M; m++) {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    bool raise = highest[m][h] > shift[m][h] + MaximumLag;
                    float correction = raise ? exp2_fast(shift[m][h] - highest[m][h]) : 1.0f;
                    shift[m][h] = raise ? highest[m][h] : shift[m][h];
                    sum[m][h] *= correction;
#pragma unroll
                    for (int j = 0; j < D / 8; j++) o[m][j][2 * h] *= correction, o[m][j][2 * h + 1] *= correction;
                }
            }
        }
#pragma unroll
        for (int m = First; m < M; m++) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                // While a row has seen no key, −∞ − (−∞) would be NaN: subtract 0 instead.
                float base = shift[m][h] == -INFINITY ? 0.0f : shift[m][h];
#pragma unroll
                for (int j = 0; j < Keys / 8; j++) {
                    float p0 = exp2_fast(fmaf(s[m][j][2 * h], factor, -base)), p1 = exp2_fast(fmaf(s[m][j][2 * h + 1], factor, -base));
                    s[m][j][2 * h] = p0, s[m][j][2 * h + 1] = p1;
                    sum[m][h] += p0 + p1;
                }
            }
        }
        multiply_add<T, D, First, M>(o, s, block_address<D>(v_tile));
    }
};

template <typename T, int D> __device__ __forceinline__ void attention_forward(const AttentionForwardParams& p) {
    using Tiles = ForwardTiles<D>;
    constexpr int M = Tiles::M, Rows = 64 * M, Threads = 128, Keys = Tiles::Keys, KeyTile = Keys * TileStride<D>;
    // Queries that go to registers have their tile in the second stage, which is free until then.
    static_assert(!Tiles::InRegisters || Rows <= 2 * Keys, "the tile of queries fits in a stage");
    T* stages = dynamic_shared<T>();
    T* q_tile = stages + (Tiles::InRegisters ? 2 : 4) * KeyTile;

    const AttentionShape& n = p.shape;
    const auto [b, head, key_head, q0, rows] = QueriesOfHead<Rows>(n);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    load_tile<T, D, Rows, Threads>(q_tile, at((const T*)p.q, p.q_strides, b, q0, head), p.q_strides.row, rows, n);
    const int* starts = p.key_start + (long long)b * n.queries + q0;
    int key = first_key(starts, rows), end = n.query_offset + q0 + rows;
    using Loader = TileLoader<T, D, Keys, Threads>;
    Loader k(at((const T*)p.k, p.k_strides, b, key, key_head), p.k_strides.row, n);
    Loader v(at((const T*)p.v, p.v_strides, b, key, key_head), p.v_strides.row, n);
    if (key < end) k.load(stages, end - key), v.load(stages + KeyTile, end - key);

    // Rows beyond the last query are never written.
    ForwardRows<T, D> mine;
    int row = warp * 16 + (lane >> 2), low = 0;
    mine.last = n.query_offset + q0 + row;
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int i = row + 64 * m + 8 * h;
            mine.low[m][h] = i < rows ? max(starts[i], 0) : 0;
            mine.shift[m][h] = -INFINITY;
            low = max(low, mine.low[m][h]);
        }
    }
    // From key `low` to `last` every row of the warp sees every key, and after last + 15 + 64·m none of tile m does.
    low = __reduce_max_sync(AllLanes, low);
    int last = n.query_offset + q0 + warp * 16;

    wait_for_copies();
    __syncthreads();
    // The scale is applied inside the exponent, where it has to be positive: its sign goes to the queries, and so does a 0.
    float factor = n.scale * Log2E;
    mine.factor = factor == 0 ? 1.0f : fabsf(factor);
    if (factor <= 0) {
        for (int i = threadIdx.x; i < Rows * D; i += Threads) {
            T& x = q_tile[i / D * TileStride<D> + i % D];
            x = from_float<T>(factor == 0 ? 0.0f : -to_float(x));
        }
        __syncthreads();
    }
    mine.q.load(block_address<D>(q_tile + warp * 16 * TileStride<D>), 64 * TileStride<D> * 2);

    for (int stage = 0; key < end; key += Keys, stage ^= 1) {
        // The tile has come, and everyone has finished with the other stage.
        wait_for_copies();
        __syncthreads();
        int next = key + Keys;
        if (next < end) {
            T* free = stages + (stage ^ 1) * 2 * KeyTile;
            k.load(free, end - next), v.load(free + KeyTile, end - next);
        }
        const T* k_tile = stages + stage * 2 * KeyTile;
        if (key >= low && key + Keys - 1 <= last) mine.template pass<false, 0>(key, k_tile, k_tile + KeyTile);
        else if (key <= last + 15) mine.template pass<true, 0>(key, k_tile, k_tile + KeyTile);
        else if (M > 1 && key <= last + 15 + 64 * (M - 1)) mine.template pass<true, M - 1>(key, k_tile, k_tile + KeyTile);
    }

    // The stages are free once everyone is here; each warp takes the rows that it alone wrote and reads.
    __syncthreads();
#pragma unroll
    for (int m = 0; m < M; m++) {
        int first = 64 * m + warp * 16;
        float inverse[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float sum = mine.sum[m][h];
            sum += __shfl_xor_sync(AllLanes, sum, 1);
            sum += __shfl_xor_sync(AllLanes, sum, 2);
            inverse[h] = sum == 0 ? 0.0f : 1 / sum;
            int i = row + 64 * m + 8 * h;
            if (p.lse && (lane & 3) == 0 && i < rows)
                p.lse[((long long)b * n.heads + head) * n.queries + q0 + i] = sum == 0 ? -INFINITY : mine.shift[m][h] / Log2E + logf(sum);
        }
        store_rows<T, D>(
            stages + first * TileStride<D>, mine.o[m], inverse[0], inverse[1], at((T*)p.o, p.o_strides, b, q0 + first, head),
            p.o_strides.row, rows - first, n.dimension, n.vectors);
    }
}
