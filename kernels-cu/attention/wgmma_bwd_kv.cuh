// attention_bwd_kv_wgmma_d<D>_{bf16,f16} — as attention_bwd_kv_d<D>, with Hopper's warpgroup products; D 64 and 128
// Shapes: as there; 16-byte accesses.  Dtypes: as there.  Arch: sm_90a
// Algorithm: a block is a warpgroup and has 64 keys; tiles of queries and dO come by cp.async into a ring of stages, one barrier a
//   tile. A thread copies the same piece of each tile, from an address that moves on: worked out anew, addresses take as many
//   instructions as everything else
// Numerics, Aliasing: as attention_bwd_kv_d<D>
// Versions: v1, blocks of two warpgroups, 128 keys: 121 µs at 8×1024, 16 heads, D 64, causal; 158 µs at 4×1024, 32/8 heads, D 128;
//   1050 µs at 2×4096. v2 100, 128 and 816 µs, of 124, 274 and 1976 µs of attention_bwd_kv (H200, 2026-11-27): half of v1's instructions
//   were addresses. At D 64 two blocks a multiprocessor in 190 registers; three in 168 take as long, since the compiler lets no
//   products overlap in them. The next tile's scores formed meanwhile, in 239 registers: no gain
#pragma once
#include "wgmma.cuh"

// Copies tiles of 64 queries: q, dO, (lse·log2(e), delta) and the first key of each; every head of a group passes over one tile
// before the next tile's turn. Queries beyond the last are zeros with lse = 0: they add p·dO = 0 and p·(0 − 0)·q = 0.
template <typename T, int D, int Threads> struct QueryLoader {
    static constexpr int Pieces = D / 8, Step = Threads / Pieces, Queries = WgmmaRows, TileBytes = Queries * D * 2;
    static_assert(Threads % Pieces == 0 && Step % 8 == 0 && Queries <= Threads, "a thread has the same place in every Step-th row");

    // In shared memory: the tiles of q and dO of each stage, then the stages' statistics, then their first keys.
    uint32_t tiles, statistics, first_keys;
    const T* q;
    const T* d_o;
    int fact, start;  // where this thread's statistics are, and its first key
    int left, row, head;

    __device__ __forceinline__ QueryLoader(
        const AttentionBackwardParams& p, uint32_t memory, int stages, int b, int query, int first_head) {
        const AttentionShape& n = p.shape;
        const int piece = threadIdx.x % Pieces;
        int own = threadIdx.x / Pieces;
        tiles = memory + piece / 8 * (Queries * PartRowBytes) + own * PartRowBytes + ((piece ^ own) % 8) * 16;
        statistics = memory + stages * 2 * TileBytes + threadIdx.x * 8;
        first_keys = memory + stages * (2 * TileBytes + Queries * 8) + threadIdx.x * 4;
        q = at((const T*)p.q, p.q_strides, b, query + own, first_head) + piece * 8;
        d_o = at((const T*)p.d_o, p.do_strides, b, query + own, first_head) + piece * 8;
        start = b * n.queries + query + threadIdx.x;
        fact = (b * n.heads + first_head) * n.queries + query + threadIdx.x;
        left = n.queries - query;
        // Pieces beyond the last column have no row.
        row = piece * 8 < n.dimension ? own : MostInt / 2;
        head = 0;
    }

    __device__ __forceinline__ void load(const AttentionBackwardParams& p, int stage, int heads) {
        const int mine = left - row;
        const uint32_t to = tiles + stage * 2 * TileBytes;
#pragma unroll
        for (int r = 0; r < Queries; r += Step) {
            copy_async<16>(to + r * PartRowBytes, q + r * p.q_strides.row, r < mine);
            copy_async<16>(to + TileBytes + r * PartRowBytes, d_o + r * p.do_strides.row, r < mine);
        }
        if (threadIdx.x < Queries) {
            bool inside = (int)threadIdx.x < left;
            copy_async<8>(statistics + stage * Queries * 8, p.delta + 2 * (long long)fact, inside);
            copy_async<4>(first_keys + stage * Queries * 4, p.key_start + start, inside);
        }
        if (++head < heads) {
            q += p.q_strides.head, d_o += p.do_strides.head, fact += p.shape.queries;
            return;
        }
        head = 0, left -= Queries, start += Queries;
        q += Queries * p.q_strides.row - (heads - 1) * p.q_strides.head;
        d_o += Queries * p.do_strides.row - (heads - 1) * p.do_strides.head;
        fact += Queries - (heads - 1) * p.shape.queries;
    }
};

template <typename T, int D> __device__ __forceinline__ void attention_backward_kv_wgmma(const AttentionBackwardParams& p) {
    constexpr int Keys = WgmmaRows, Threads = 128, Queries = WgmmaRows, TileBytes = Queries * D * 2, Stages = WgmmaStages<D>;
    const uint32_t k_tile = shared_address(wgmma_memory), v_tile = k_tile + Keys * D * 2, stages = v_tile + Keys * D * 2;
    const unsigned char* const ring = wgmma_memory + 2 * Keys * D * 2;
    const float* const statistics = reinterpret_cast<const float*>(ring + Stages * 2 * TileBytes);
    const int* const first_keys = reinterpret_cast<const int*>(statistics + Stages * 2 * Queries);
    int* const ends = (int*)(first_keys + Stages * Queries);

    const AttentionShape& n = p.shape;
    TileOfHead place(blockIdx.x, n.batch, n.key_heads);
    const int key0 = place.tile * Keys, b = place.b, heads = n.heads / n.key_heads, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    using RowLoader = PartLoader<T, D, Keys, Threads>;
    RowLoader(p.k, p.k_strides, b, key0, place.head, n.dimension).load(k_tile, n.keys - key0);
    RowLoader(p.v, p.v_strides, b, key0, place.head, n.dimension).load(v_tile, n.keys - key0);
    QueryLoader<T, D, Threads> loader(p, stages, Stages, b, key0, place.head * heads);
    loader.load(p, 0, heads);
    commit_copies();
    // Queries from key0 on are visited up to the last one that sees any of the keys.
    const int* starts = p.key_start + (long long)b * n.queries;
    int end = key0;
#pragma unroll 8
    for (int i = key0 + threadIdx.x; i < n.queries; i += Threads) end = starts[i] < key0 + Keys ? i + 1 : end;
    end = __reduce_max_sync(AllLanes, end);
    if (lane == 0) ends[warp] = end;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < Threads / 32; w++) end = max(end, ends[w]);
    int turns = (end - key0 + Queries - 1) / Queries * heads;
#pragma unroll
    for (int s = 1; s < Stages - 1; s++) {
        if (s < turns) loader.load(p, s, heads);
        commit_copies();
    }

    float dk[D / 8][4] = {}, dv[D / 8][4] = {};
    const float factor = n.scale * Log2E;
    const int own = warp * 16 + (lane >> 2);
    const uint64_t k = tile_descriptor(k_tile), v = tile_descriptor(v_tile);
    int head = 0, now = 0;  // the tile's first query, from key0 on

    for (int stage = 0, free = Stages - 1; turns > 0; turns--) {
        wait_for_groups<Stages - 2>();
        show_to_products();
        if (turns > Stages - 1) loader.load(p, free, heads);
        commit_copies();
        const float* facts = statistics + stage * 2 * Queries + (lane & 3) * 4;
        const int* first = first_keys + stage * Queries;
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
        bool whole = now > 0;
#pragma unroll
        for (int i = 0; i < Queries; i += 32) whole &= first[i + lane] <= key0;
        whole = __all_sync(AllLanes, whole);
        wait_for_products<1>();
        hold(s);
#pragma unroll
        for (int j = 0; j < Queries / 8; j++) {
            // Shift and delta of two neighbours.
            float4 two = *reinterpret_cast<const float4*>(facts + j * 16);
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
                    int i = j * 8 + (lane & 3) * 2 + e, start = first[i] - key0;
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
            float4 two = *reinterpret_cast<const float4*>(facts + j * 16);
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
        free = stage;
        stage = stage + 1 == Stages ? 0 : stage + 1;
        if (++head == heads) head = 0, now += Queries;
    }

    // All shared memory is free once everyone is here.
    wait_for_copies();
    __syncthreads();
    const int row = key0 + warp * 16, left = n.keys - row;
    T* buffer = (T*)wgmma_memory + warp * 16 * TileStride<D>;
    store_turned_rows<T, D>(
        buffer, dk, at((T*)p.dk, p.dk_strides, b, row, place.head), p.dk_strides.row, left, (long long)b * n.queries + row, p);
    __syncwarp();
    store_rows<T, D>(
        buffer, dv, 1.0f, 1.0f, at((T*)p.dv, p.dv_strides, b, row, place.head), p.dv_strides.row, left, n.dimension, true);
}
