// attention_bwd_kv_wgmma_d<D>_{bf16,f16} — as attention_bwd_kv_d<D>, with Hopper's warpgroup products; D 64 and 128
// Shapes: as there; 16-byte accesses.  Dtypes: as there.  Arch: sm_90a
// Algorithm: a warpgroup has 64 keys; tiles of queries and dO come by cp.async into two stages, one barrier a tile
// Numerics, Aliasing: as attention_bwd_kv_d<D>
// Versions: v1 118 µs at 8×1024, 16 heads, D 64, causal, where attention_bwd_kv_d64 takes 124; 154 µs at 4×1024, 32/8 heads, D 128
//   (274); 1126 µs at 2×4096 (1976) (H200, 2026-11-27). At D 64 registers are its bound, 176 a thread. Tried there: blocks of 64 keys
//   in 168, 108 µs, but 14% slower at 4,096 tokens; 128 registers, where the compiler lets no products overlap, 116 µs
#pragma once
#include "tiles.cuh"
#include "wgmma.cuh"

template <typename T, int D> __device__ __forceinline__ void attention_backward_kv_wgmma(const AttentionBackwardParams& p) {
    constexpr int Keys = WgmmaKeys, Threads = 2 * Keys, Queries = WgmmaRows, TileBytes = Queries * D * 2;
    extern __shared__ __align__(1024) unsigned char wgmma_memory[];
    const uint32_t k_tile = shared_address(wgmma_memory), v_tile = k_tile + Keys * D * 2, stages = v_tile + Keys * D * 2;
    // Behind the tiles, for both stages: (lse·log2(e), delta) and first key of each query.
    float* const statistics = reinterpret_cast<float*>(wgmma_memory + 2 * Keys * D * 2 + 4 * TileBytes);
    int* const first_keys = reinterpret_cast<int*>(statistics + 4 * Queries);
    int* const ends = first_keys + 2 * Queries;

    const AttentionShape& n = p.shape;
    TileOfHead place(blockIdx.x, n.batch, n.key_heads);
    int key0 = place.tile * Keys, rows = min(Keys, n.keys - key0), b = place.b, heads = n.heads / n.key_heads;
    int head0 = place.head * heads, head = head0, warp = threadIdx.x >> 5, lane = threadIdx.x & 31, group = threadIdx.x >> 7;
    using RowLoader = PartLoader<T, D, Keys, Threads>;
    RowLoader(at((const T*)p.k, p.k_strides, b, key0, place.head), p.k_strides.row, n.dimension).load(k_tile, rows);
    RowLoader(at((const T*)p.v, p.v_strides, b, key0, place.head), p.v_strides.row, n.dimension).load(v_tile, rows);
    const int* starts = p.key_start + (long long)b * n.queries;
    auto load = [&](int stage, int head, int tile) {
        int left = n.queries - tile;
        using Loader = PartLoader<T, D, Queries, Threads>;
        uint32_t to = stages + stage * 2 * TileBytes;
        Loader(at((const T*)p.q, p.q_strides, b, tile, head), p.q_strides.row, n.dimension).load(to, left);
        Loader(at((const T*)p.d_o, p.do_strides, b, tile, head), p.do_strides.row, n.dimension).load(to + TileBytes, left);
        // Queries beyond the last are zeros with lse = 0: they add p·dO = 0 and p·(0 − 0)·q = 0.
        const float* from = p.delta + (((long long)b * n.heads + head) * n.queries + tile) * 2;
        for (int i = threadIdx.x; i < 2 * Queries; i += Threads)
            copy_async_4(statistics + stage * 2 * Queries + i, from + (i < 2 * left ? i : 0), i < 2 * left);
        for (int i = threadIdx.x; i < Queries; i += Threads)
            copy_async_4(first_keys + stage * Queries + i, starts + tile + (i < left ? i : 0), i < left);
    };
    load(0, head, key0);
    // Queries from key0 on are visited up to the last one that sees any of the keys.
    int end = key0;
#pragma unroll 8
    for (int i = key0 + threadIdx.x; i < n.queries; i += Threads) end = starts[i] < key0 + Keys ? i + 1 : end;
    end = __reduce_max_sync(AllLanes, end);
    if (lane == 0) ends[warp] = end;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < Threads / 32; w++) end = max(end, ends[w]);

    float dk[D / 8][4] = {}, dv[D / 8][4] = {};
    const float factor = n.scale * Log2E;
    const int own = key0 + warp * 16 + (lane >> 2), group_first = key0 + group * 64;
    const uint64_t k = tile_descriptor(k_tile + group * 64 * PartRowBytes), v = tile_descriptor(v_tile + group * 64 * PartRowBytes);

    for (int tile = key0, stage = 0; tile < end; stage ^= 1) {
        wait_for_copies();
        show_to_products();
        __syncthreads();
        // Every head of the group passes over one tile of queries before the next tile's turn.
        int now = tile;
        if (++head == head0 + heads) head = head0, tile += Queries;
        if (tile < end) load(stage ^ 1, head, tile);
        if (now + Queries <= group_first) continue;
        const float* facts = statistics + stage * 2 * Queries;
        const int* first = first_keys + stage * Queries;
        bool whole = group_first + 63 <= now;
#pragma unroll
        for (int i = 0; i < Queries; i += 32) whole &= first[(i + lane) % Queries] <= group_first;
        whole = __all_sync(AllLanes, whole);
        const uint64_t q = tile_descriptor(stages + stage * 2 * TileBytes), d_o = q + (TileBytes >> 4);
        float s[Queries / 8][4], ds[Queries / 8][4];
        uint32_t weights[Queries / 16][4], gradients[Queries / 16][4];
        hold(s);
        hold(ds);
        products_begin();
        multiply_rows_async<T, D, Keys, Queries>(s, k, q);
        products_end();
        multiply_rows_async<T, D, Keys, Queries>(ds, v, d_o);
        products_end();
        wait_for_products<1>();
        hold(s);
#pragma unroll
        for (int j = 0; j < Queries / 8; j++) {
            // Shift and delta of two neighbours.
            float4 two = *reinterpret_cast<const float4*>(facts + 2 * (j * 8 + (lane & 3) * 2));
#pragma unroll
            for (int h = 0; h < 2; h++) {
                s[j][2 * h] = exp2_fast(fmaf(s[j][2 * h], factor, -two.x));
                s[j][2 * h + 1] = exp2_fast(fmaf(s[j][2 * h + 1], factor, -two.z));
            }
        }
        if (!whole) {
#pragma unroll
            for (int j = 0; j < Queries / 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    // Also where lse is −∞, because such a query sees no key.
                    int i = j * 8 + (lane & 3) * 2 + e, start = first[i];
#pragma unroll
                    for (int h = 0; h < 2; h++)
                        if (own + 8 * h < start || own + 8 * h > now + i) s[j][2 * h + e] = 0;
                }
        }
        pack_rows<T>(weights, s);
        wait_for_products<0>();
        hold(ds);
        hold(dv);
        hold(weights);
        products_begin();
        multiply_add_async<T, D>(dv, weights, d_o);
        products_end();
#pragma unroll
        for (int j = 0; j < Queries / 8; j++) {
            float4 two = *reinterpret_cast<const float4*>(facts + 2 * (j * 8 + (lane & 3) * 2));
#pragma unroll
            for (int h = 0; h < 2; h++) {
                ds[j][2 * h] = s[j][2 * h] * (ds[j][2 * h] - two.y);
                ds[j][2 * h + 1] = s[j][2 * h + 1] * (ds[j][2 * h + 1] - two.w);
            }
        }
        pack_rows<T>(gradients, ds);
        hold(dk);
        hold(gradients);
        products_begin();
        multiply_add_async<T, D>(dk, gradients, q);
        products_end();
        wait_for_products<0>();
        hold(dk);
        hold(dv);
        hold(weights);
        hold(gradients);
    }

    // All shared memory is free once everyone is here.
    wait_for_copies();
    __syncthreads();
    T* buffer = (T*)wgmma_memory + warp * 16 * TileStride<D>;
    const int row = warp * 16;
    store_rows<T, D>(
        buffer, dk, n.scale, n.scale, at((T*)p.dk, p.dk_strides, b, key0 + row, place.head), p.dk_strides.row, rows - row, n.dimension, true);
    __syncwarp();
    store_rows<T, D>(
        buffer, dv, 1.0f, 1.0f, at((T*)p.dv, p.dv_strides, b, key0 + row, place.head), p.dv_strides.row, rows - row, n.dimension, true);
}
