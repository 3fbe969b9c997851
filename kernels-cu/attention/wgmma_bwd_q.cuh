// attention_bwd_q_wgmma_d<D>_{bf16,f16} — as attention_bwd_q_d<D>, with Hopper's warpgroup products; D 64 and 128
// Shapes: as there; 16-byte accesses.  Dtypes: as there.  Arch: sm_90a
// Algorithm: as in attention_fwd_wgmma, with two products for ds
// Numerics, Aliasing: as attention_bwd_q_d<D>
// Versions: v1 75 µs at 8×1024, 16 heads, D 64, causal, where attention_bwd_q_d64 takes 122; 167 µs at 4×1024, 32/8 heads, D 128
//   (253); 780 µs at 2×4096 (1468) (H200, 2026-11-27). v2 66, 128 and 651 µs: delta's rows are asked for before anything else
#pragma once
#include "wgmma.cuh"

// Σ_d dO·o of a warp's 16 rows. The rows are asked for some at a time, so that the first ones can come while other things are done.
template <typename T, int D> struct DeltaRows {
    static constexpr int Lanes = D / 8, Step = 32 / Lanes, Ahead = 4;

    const T* d_o;
    const T* o;
    long long do_stride, o_stride;
    int left, row;  // none where this lane's columns lie beyond the last
    uint4 x[Ahead], y[Ahead];

    // Pointers to the first of the rows.
    __device__ __forceinline__ DeltaRows(const T* d_o, long long do_stride, const T* o, long long o_stride, int rows, int columns)
        : do_stride(do_stride), o_stride(o_stride) {
        int c = threadIdx.x % Lanes * 8;
        row = (threadIdx.x & 31) / Lanes;
        this->d_o = d_o + row * do_stride + c, this->o = o + row * o_stride + c;
        left = c < columns ? rows - row : 0;
    }

    __device__ __forceinline__ void load(int from) {
#pragma unroll
        for (int i = 0; i < Ahead; i++) {
            int r = from + i * Step;
            x[i] = y[i] = make_uint4(0, 0, 0, 0);
            if (r < left) x[i] = *(const uint4*)(d_o + r * do_stride), y[i] = *(const uint4*)(o + r * o_stride);
        }
    }

    // After load(0): sums[0..15], and (lse·log2(e), sum) of each row.
    __device__ __forceinline__ void sum(float* sums, float* statistics, const float* lse, int rows) {
#pragma unroll
        for (int from = 0; from < 16; from += Ahead * Step) {
            if (from > 0) load(from);
#pragma unroll
            for (int i = 0; i < Ahead; i++) {
                float a[8], b[8], sum = 0;
                Pack<T>::load((const T*)&x[i], a);
                Pack<T>::load((const T*)&y[i], b);
#pragma unroll
                for (int e = 0; e < 8; e++) sum += a[e] * b[e];
#pragma unroll
                for (int d = Lanes / 2; d > 0; d /= 2) sum += __shfl_xor_sync(AllLanes, sum, d);
                int r = row + from + i * Step;
                if (threadIdx.x % Lanes == 0) {
                    sums[r] = sum;
                    if (r < rows) *reinterpret_cast<float2*>(statistics + 2 * r) = make_float2(lse[r] * Log2E, sum);
                }
            }
        }
    }
};

template <typename T, int D> __device__ __forceinline__ void attention_backward_q_wgmma(const AttentionBackwardParams& p) {
    constexpr int Rows = WgmmaRows, Threads = 128, Keys = WgmmaRows, TileBytes = Keys * D * 2;
    const uint32_t q_tile = shared_address(wgmma_memory), do_tile = q_tile + Rows * D * 2, stages = do_tile + Rows * D * 2;

    const AttentionShape& n = p.shape;
    const auto [b, head, key_head, q0, rows] = QueriesOfHead<Rows>(n);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    using RowLoader = PartLoader<T, D, Rows, Threads>;
    RowLoader(p.q, p.q_strides, b, q0, head, n.dimension).load(q_tile, rows);
    RowLoader(p.d_o, p.do_strides, b, q0, head, n.dimension).load(do_tile, rows);
    const int* starts = p.key_start + (long long)b * n.queries + q0;
    int row = warp * 16 + (lane >> 2), low_of_all = 0, low[2];
    float dq[D / 8][4] = {}, shift[2], delta[2], factor = n.scale * Log2E;
    long long first = ((long long)b * n.heads + head) * n.queries + q0;
    DeltaRows<T, D> deltas(
        at((const T*)p.d_o, p.do_strides, b, q0 + warp * 16, head), p.do_strides.row,
        at((const T*)p.o, p.o_strides, b, q0 + warp * 16, head), p.o_strides.row, rows - warp * 16, n.dimension);
    deltas.load(0);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int i = row + 8 * h;
        bool inside = i < rows;
        low[h] = inside ? max(starts[i], 0) : 0;
        shift[h] = inside ? p.lse[first + i] * Log2E : 0.0f;
        low_of_all = max(low_of_all, low[h]);
    }
    int key = first_key(starts, rows), end = q0 + rows;
    using Loader = PartLoader<T, D, Keys, Threads>;
    Loader k(p.k, p.k_strides, b, key, key_head, n.dimension);
    Loader v(p.v, p.v_strides, b, key, key_head, n.dimension);
    if (key < end) k.load(stages, end - key), v.load(stages + TileBytes, end - key);

    // The second stage is free as yet.
    float* sums = reinterpret_cast<float*>(wgmma_memory + 2 * Rows * D * 2 + 2 * TileBytes);
    deltas.sum(sums + warp * 16, p.delta + 2 * (first + warp * 16), p.lse + first + warp * 16, rows - warp * 16);
    __syncwarp();
#pragma unroll
    for (int h = 0; h < 2; h++) delta[h] = sums[row + 8 * h];
    // From key `low_of_all` to `last` every row of the warp sees every key.
    low_of_all = __reduce_max_sync(AllLanes, low_of_all);
    int last = q0 + warp * 16;
    const uint64_t q = tile_descriptor(q_tile), d_o = tile_descriptor(do_tile);

    for (int stage = 0; key < end; key += Keys, stage ^= 1) {
        wait_for_copies();
        show_to_products();
        const uint32_t k_tile = stages + stage * 2 * TileBytes, free = stages + (stage ^ 1) * 2 * TileBytes;
        int next = key + Keys;
        if (next < end) k.load(free, end - next), v.load(free + TileBytes, end - next);
        float s[Keys / 8][4], ds[Keys / 8][4];
        uint32_t gradients[Keys / 16][4];
        hold(s);
        hold(ds);
        products_begin();
        multiply_rows_async<T, D, Rows, Keys>(s, q, tile_descriptor(k_tile));
        products_end();
        multiply_rows_async<T, D, Rows, Keys>(ds, d_o, tile_descriptor(k_tile + TileBytes));
        products_end();
        wait_for_products<1>();
        hold(s);
#pragma unroll
        for (int i = 0; i < Keys / 2; i++) s[i >> 2][i & 3] = exp2_fast(fmaf(s[i >> 2][i & 3], factor, -shift[i >> 1 & 1]));
        if (key < low_of_all || key + Keys - 1 > last) {
            int column = key + (threadIdx.x & 3) * 2;
#pragma unroll
            for (int i = 0; i < Keys / 2; i++) {
                // Also where lse is −∞, because such a query sees no key.
                int h = i >> 1 & 1, at_key = column + (i >> 2) * 8 + (i & 1);
                if (at_key < low[h] || at_key > last + (lane >> 2) + 8 * h) s[i >> 2][i & 3] = 0;
            }
        }
        wait_for_products<0>();
        hold(ds);
#pragma unroll
        for (int i = 0; i < Keys / 2; i++) ds[i >> 2][i & 3] = s[i >> 2][i & 3] * (ds[i >> 2][i & 3] - delta[i >> 1 & 1]);
        pack_rows<T>(gradients, ds);
        hold(dq);
        hold(gradients);
        products_begin();
        multiply_add_async<T, D>(dq, gradients, tile_descriptor(k_tile));
        products_end();
        wait_for_products<0>();
        hold(dq);
        hold(gradients);
    }

    // The stages are free once everyone is here.
    wait_for_copies();
    __syncthreads();
    T* buffer = (T*)(wgmma_memory + 2 * Rows * D * 2) + warp * 16 * TileStride<D>;
    store_turned_rows<T, D>(
        buffer, dq, at((T*)p.dq, p.dq_strides, b, q0 + warp * 16, head), p.dq_strides.row, rows - warp * 16,
        (long long)b * n.queries + q0 + warp * 16, p);
}
