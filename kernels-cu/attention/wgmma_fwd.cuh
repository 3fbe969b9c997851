// attention_fwd_wgmma_d<D>_{bf16,f16} — as attention_fwd_d<D>, with Hopper's warpgroup products; D 64 and 128, scale > 0
// Shapes: as there; 16-byte accesses.  Dtypes: as there.  Arch: sm_90a
// Bound: tensor cores; 280 (D 64) to 380 (D 128) TFLOP/s aimed at on H200 for 1,024 keys
// Algorithm: a block is a warpgroup and has 64 queries; several blocks of a multiprocessor hide each other's waits. K and V tiles
//   of 64 keys come by cp.async, K into two stages; products read their operands in shared memory, P in registers
// Numerics, Aliasing: as attention_fwd_d<D>
// Versions: v1 55 µs, 313 TFLOP/s, at 8×1024, 16 heads, D 64, causal, where attention_fwd_d64 takes 77; 103 µs, 334 TFLOP/s, at 4×1024,
//   32/8 heads, D 128 (132); 603 µs, 456 TFLOP/s, at 2×4096 (837) (H200, 2026-11-27). v2, one tile of V at D 128 and so three blocks a
//   multiprocessor: 90 and 518 µs, 382 and 531 TFLOP/s. Tried with v1: blocks of two warpgroups, 62, 120 and 715 µs; tiles of 128 keys,
//   63, 158 and 893 µs; the next tile's scores formed during this one's weighing, 59, 104 and 640 µs
#pragma once
#include "wgmma.cuh"

template <typename T, int D> struct WgmmaForwardRows {
    static constexpr int Keys = WgmmaRows;

    float o[D / 8][4] = {};
    float shift[2] = {-INFINITY, -INFINITY}, sum[2] = {};  // as in ForwardRows
    float factor;
    int last, low[2];  // row g sees the keys low[0] to last, row g + 8 low[1] to last + 8

    __device__ __forceinline__ void mask(float (&s)[Keys / 8][4], int key) const {
        int column = key + (threadIdx.x & 3) * 2;
#pragma unroll
        for (int i = 0; i < Keys / 2; i++) {
            int h = i >> 1 & 1, at_key = column + (i >> 2) * 8 + (i & 1);
            if (at_key < low[h] || at_key > last + 8 * h) s[i >> 2][i & 3] = -INFINITY;
        }
    }

    // Scores become probabilities, packed as first operands.
    __device__ __forceinline__ void weigh(float (&s)[Keys / 8][4], uint32_t (&p)[Keys / 16][4]) {
        float highest[2];
        bool lags = false;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float most = fmaxf(s[0][2 * h], s[0][2 * h + 1]);
#pragma unroll
            for (int j = 1; j < Keys / 8; j++) most = fmaxf(most, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
            most = fmaxf(most, __shfl_xor_sync(AllLanes, most, 1));
            most = fmaxf(most, __shfl_xor_sync(AllLanes, most, 2));
            highest[h] = most * factor;
            lags |= highest[h] > shift[h] + MaximumLag;
        }
        if (__any_sync(AllLanes, lags)) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                bool raise = highest[h] > shift[h] + MaximumLag;
                float correction = raise ? exp2_fast(shift[h] - highest[h]) : 1.0f;
                shift[h] = raise ? highest[h] : shift[h];
                sum[h] *= correction;
#pragma unroll
                for (int j = 0; j < D / 8; j++) o[j][2 * h] *= correction, o[j][2 * h + 1] *= correction;
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float base = shift[h] == -INFINITY ? 0.0f : shift[h];
#pragma unroll
            for (int j = 0; j < Keys / 8; j++) {
                float p0 = exp2_fast(fmaf(s[j][2 * h], factor, -base)), p1 = exp2_fast(fmaf(s[j][2 * h + 1], factor, -base));
                p[j / 2][2 * (j & 1) + h] = pack2<T>(p0, p1);
                sum[h] += p0 + p1;
            }
        }
    }
};

template <typename T, int D> __device__ __forceinline__ void attention_forward_wgmma(const AttentionForwardParams& p) {
    constexpr int Rows = WgmmaRows, Threads = 128, Keys = WgmmaRows, TileBytes = Keys * D * 2;
    // Q, two tiles of K, and of V two or, where that lets another block in, one.
    constexpr bool OneV = D > 64;
    const uint32_t q_tile = shared_address(wgmma_memory), k_tiles = q_tile + Rows * D * 2, v_tiles = k_tiles + 2 * TileBytes;

    const AttentionShape& n = p.shape;
    const auto [b, head, key_head, q0, rows] = QueriesOfHead<Rows>(n);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    PartLoader<T, D, Rows, Threads>(p.q, p.q_strides, b, q0, head, n.dimension).load(q_tile, rows);
    const int* starts = p.key_start + (long long)b * n.queries + q0;
    int key = first_key(starts, rows), end = n.query_offset + q0 + rows;
    using Loader = PartLoader<T, D, Keys, Threads>;
    Loader k(p.k, p.k_strides, b, key, key_head, n.dimension);
    Loader v(p.v, p.v_strides, b, key, key_head, n.dimension);
    if (key < end) {
        k.load(k_tiles, end - key);
        if (!OneV) v.load(v_tiles, end - key);
    }

    // Rows beyond the last query are never written.
    WgmmaForwardRows<T, D> mine;
    mine.factor = n.scale * Log2E;
    int row = warp * 16 + (lane >> 2), low = 0;
    mine.last = n.query_offset + q0 + row;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        mine.low[h] = row + 8 * h < rows ? max(starts[row + 8 * h], 0) : 0;
        low = max(low, mine.low[h]);
    }
    // From key `low` to `last` every row of the warp sees every key.
    low = __reduce_max_sync(AllLanes, low);
    int last = n.query_offset + q0 + warp * 16;

    for (int stage = 0; key < end; key += Keys, stage ^= 1) {
        // The tile has come, and everyone has finished with the other stage.
        wait_for_copies();
        show_to_products();
        const uint32_t k_tile = k_tiles + stage * TileBytes, v_tile = OneV ? v_tiles : v_tiles + stage * TileBytes;
        const int next = key + Keys;
        if (OneV) {
            v.load(v_tile, end - key);
            commit_copies();
        }
        if (next < end) {
            k.load(k_tiles + (stage ^ 1) * TileBytes, end - next);
            if (!OneV) v.load(v_tiles + (stage ^ 1) * TileBytes, end - next);
        }
        if (OneV) commit_copies();
        float s[Keys / 8][4];
        uint32_t weights[Keys / 16][4];
        hold(s);
        products_begin();
        multiply_rows_async<T, D, Rows, Keys>(s, tile_descriptor(q_tile), tile_descriptor(k_tile));
        products_end();
        wait_for_products<0>();
        hold(s);
        if (key < low || key + Keys - 1 > last) mine.mask(s, key);
        mine.weigh(s, weights);
        if (OneV) {
            wait_for_groups<1>();
            show_to_products();
        }
        hold(mine.o);
        hold(weights);
        products_begin();
        multiply_add_async<T, D>(mine.o, weights, tile_descriptor(v_tile));
        products_end();
        wait_for_products<0>();
        hold(mine.o);
        hold(weights);
    }

    // The stages are free once everyone is here.
    wait_for_copies();
    __syncthreads();
    float inverse[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = mine.sum[h];
        sum += __shfl_xor_sync(AllLanes, sum, 1);
        sum += __shfl_xor_sync(AllLanes, sum, 2);
        inverse[h] = sum == 0 ? 0.0f : 1 / sum;
        int i = row + 8 * h;
        if (p.lse && (lane & 3) == 0 && i < rows)
            p.lse[((long long)b * n.heads + head) * n.queries + q0 + i] = sum == 0 ? -INFINITY : mine.shift[h] / Log2E + logf(sum);
    }
    T* buffer = (T*)(wgmma_memory + Rows * D * 2) + warp * 16 * TileStride<D>;
    store_rows<T, D>(
        buffer, mine.o, inverse[0], inverse[1], at((T*)p.o, p.o_strides, b, q0 + warp * 16, head), p.o_strides.row, rows - warp * 16,
        n.dimension, true);
}
