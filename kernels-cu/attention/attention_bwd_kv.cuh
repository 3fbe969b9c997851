// attention_bwd_kv_d<D>_{bf16,f16} — dv = pᵀ·dO, dk = scale·dsᵀ·q with p = exp(scale·q·kᵀ − lse), ds = p·(dO·vᵀ − delta)
// Shapes: as in the forward with Tq = Tk; delta [B,H,T,2] f32 from attention_bwd_q: lse·log2(e) and delta.  Outputs strided
// Dtypes: bf16 | f16; f32 sums, p and ds rounded to the dtype as operands.  Arch: sm_80+
// Flops: 8·d for each visible pair.  Bound: tensor cores; 210 to 300 TFLOP/s aimed at on H200
// Algorithm: a block has 64·M keys and walks over the queries that see them, head by head of the group, with transposed
//   scores: pᵀ and dsᵀ are then first operands where they lie, in registers. A warp has tiles of 16 keys, 64 rows apart, and
//   uses each fragment of the queries for all of them. D 256: dk and dv in separate blocks of 32 keys
// Numerics: fixed order, deterministic, no atomics.  Aliasing: outputs overlap nothing
// Versions: v1, 64 keys a block: 164 µs, 209 TFLOP/s, at 8×1024, 16 heads, D 64, causal (H200); v2 131 µs, 261 TFLOP/s (H100, 2026-11-27)
#pragma once
#include "tiles.cuh"

// One tile of queries as it lies in shared memory.
template <typename T, int D, int Queries> struct QueryStage {
    T q[Queries * TileStride<D>];
    T d_o[Queries * TileStride<D>];
    float statistics[Queries][2];
    int start[Queries];
};

template <typename T, int D, int Queries, int Threads>
__device__ __forceinline__ void load_queries(
    QueryStage<T, D, Queries>& stage, const AttentionBackwardParams& p, int b, int head, int tile) {
    const AttentionShape& n = p.shape;
    int rows = n.queries - tile;
    load_tile<T, D, Queries, Threads>(stage.q, at((const T*)p.q, p.q_strides, b, tile, head), p.q_strides.row, rows, n);
    load_tile<T, D, Queries, Threads>(stage.d_o, at((const T*)p.d_o, p.do_strides, b, tile, head), p.do_strides.row, rows, n);
    // Queries beyond the last are zeros with lse = 0: they add p·dO = 0 and p·(0 − 0)·q = 0.
    const float* statistics = p.delta + (((long long)b * n.heads + head) * n.queries + tile) * 2;
    for (int i = threadIdx.x; i < 2 * Queries; i += Threads)
        copy_async<4>(&stage.statistics[0][i], statistics + (i < 2 * rows ? i : 0), i < 2 * rows);
    const int* starts = p.key_start + (long long)b * n.queries + tile;
    for (int i = threadIdx.x; i < Queries; i += Threads) copy_async<4>(&stage.start[i], starts + (i < rows ? i : 0), i < rows);
}

// What a warp keeps of its keys: M tiles of 16, Gap rows apart. The two flags say which gradients it computes.
template <typename T, int D, int M, int Gap, int Queries, bool Dk, bool Dv> struct BackwardKeys {
    float dk[Dk ? M : 1][Dk ? D / 8 : 1][4] = {}, dv[Dv ? M : 1][Dv ? D / 8 : 1][4] = {};
    SharedRows<D, M> k;
    std::conditional_t<BackwardKeysTiles<D>::ValuesInRegisters, HeldRows<D, M>, SharedRows<D, M>> v;
    int first;  // the key of row g of tile 0
    float factor;

    // The key tiles up to End − 1 pass over a tile of queries.
    template <bool Masked, int End> __device__ __forceinline__ void pass(int tile, const QueryStage<T, D, Queries>& stage) {
        // In parts: scores and their gradients of 64 queries would not fit in the registers.
        constexpr int Part = Queries < BackwardPart ? Queries : Masked ? BackwardPart / 2 : BackwardPart;
#pragma unroll 1
        for (int from = 0; from < Queries; from += Part) {
            float s[M][Part / 8][4], ds[M][Part / 8][4];
            multiply_rows<T, D, 0, End>(s, k, column_address<D>(stage.q + from * TileStride<D>));
            if constexpr (Dk)
                multiply_rows<T, D, 0, End>(ds, v, column_address<D>(stage.d_o + from * TileStride<D>));
#pragma unroll
            for (int j = 0; j < Part / 8; j++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int i = from + j * 8 + (threadIdx.x & 3) * 2 + e;
                    float shift = stage.statistics[i][0], delta = stage.statistics[i][1];
#pragma unroll
                    for (int m = 0; m < End; m++) {
#pragma unroll
                        for (int h = 0; h < 2; h++) {
                            float p = exp2_fast(fmaf(s[m][j][2 * h + e], factor, -shift));
                            // Also where lse is −∞, because such a query sees no key.
                            int at_key = first + Gap * m + 8 * h;
                            if (Masked && (at_key < stage.start[i] || at_key > tile + i)) p = 0;
                            s[m][j][2 * h + e] = p;
                            if constexpr (Dk) ds[m][j][2 * h + e] = p * (ds[m][j][2 * h + e] - delta);
                        }
                    }
                }
            }
            if constexpr (Dv) multiply_add<T, D, 0, End>(dv, s, block_address<D>(stage.d_o + from * TileStride<D>));
            if constexpr (Dk) multiply_add<T, D, 0, End>(dk, ds, block_address<D>(stage.q + from * TileStride<D>));
        }
    }
};

template <typename T, int D, bool Dk, bool Dv> __device__ __forceinline__ void backward_keys(const AttentionBackwardParams& p, int block) {
    using Tiles = BackwardKeysTiles<D>;
    constexpr int M = Tiles::M, Warps = Tiles::Warps, Queries = Tiles::Queries, Gap = 16 * Warps, Keys = Gap * M, Threads = 32 * Warps;
    T* k_tile = dynamic_shared<T>();
    T* v_tile = k_tile + Keys * TileStride<D>;
    auto* stages = reinterpret_cast<QueryStage<T, D, Queries>*>(v_tile + Keys * TileStride<D>);

    const AttentionShape& n = p.shape;
    TileOfHead place(block, n.batch, n.key_heads);
    int key0 = place.tile * Keys, rows = min(Keys, n.keys - key0), b = place.b, group = n.heads / n.key_heads;
    int head0 = place.head * group, head = head0, warp = threadIdx.x >> 5;
    load_tile<T, D, Keys, Threads>(k_tile, at((const T*)p.k, p.k_strides, b, key0, place.head), p.k_strides.row, rows, n);
    load_tile<T, D, Keys, Threads>(v_tile, at((const T*)p.v, p.v_strides, b, key0, place.head), p.v_strides.row, rows, n);
    load_queries<T, D, Queries, Threads>(stages[0], p, b, head, key0);
    // Queries from key0 on are visited up to the last one that sees any of the keys.
    const int* starts = p.key_start + (long long)b * n.queries;
    int* ends = stages[1].start;
    int end = key0;
#pragma unroll 8
    for (int i = key0 + threadIdx.x; i < n.queries; i += Threads) end = starts[i] < key0 + Keys ? i + 1 : end;
    end = __reduce_max_sync(AllLanes, end);
    if ((threadIdx.x & 31) == 0) ends[warp] = end;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < Warps; w++) end = max(end, ends[w]);

    BackwardKeys<T, D, M, Gap, Queries, Dk, Dv> mine;
    mine.first = key0 + warp * 16 + (threadIdx.x >> 2 & 7);
    mine.factor = n.scale * Log2E;
    if constexpr (Tiles::ValuesInRegisters) {
        wait_for_copies();
        __syncthreads();
    }
    mine.k.load(block_address<D>(k_tile + warp * 16 * TileStride<D>), Gap * TileStride<D> * 2);
    mine.v.load(block_address<D>(v_tile + warp * 16 * TileStride<D>), Gap * TileStride<D> * 2);

    for (int tile = key0, stage = 0; tile < end; stage ^= 1) {
        wait_for_copies();
        __syncthreads();
        // Every head of the group passes over one tile of queries before the next tile's turn.
        int now = tile;
        if (++head == head0 + group) head = head0, tile += Queries;
        if (tile < end) load_queries<T, D, Queries, Threads>(stages[stage ^ 1], p, b, head, tile);
        const auto& queries = stages[stage];
        bool whole = key0 + Keys - 1 <= now;
#pragma unroll
        for (int i = 0; i < Queries; i += 32) whole &= queries.start[(i + (threadIdx.x & 31)) % Queries] <= key0;
        if (__all_sync(AllLanes, whole)) mine.template pass<false, M>(now, queries);
        else if (M == 1 || now + Queries > key0 + Gap * (M - 1)) mine.template pass<true, M>(now, queries);
        else mine.template pass<true, 1>(now, queries);
    }

    // A warp reads of the two key tiles its own rows alone, but their copies may still be on the way when no query came.
    wait_for_copies();
    __syncthreads();
#pragma unroll
    for (int m = 0; m < M; m++) {
        int row = Gap * m + warp * 16;
        if constexpr (Dk)
            store_rows<T, D>(
                k_tile + row * TileStride<D>, mine.dk[m], n.scale, n.scale, at((T*)p.dk, p.dk_strides, b, key0 + row, place.head),
                p.dk_strides.row, rows - row, n.dimension, n.vectors);
        if constexpr (Dv)
            store_rows<T, D>(
                v_tile + row * TileStride<D>, mine.dv[m], 1.0f, 1.0f, at((T*)p.dv, p.dv_strides, b, key0 + row, place.head),
                p.dv_strides.row, rows - row, n.dimension, n.vectors);
    }
}

template <typename T, int D> __device__ __forceinline__ void attention_backward_kv(const AttentionBackwardParams& p) {
    if constexpr (D <= 128) backward_keys<T, D, true, true>(p, blockIdx.x);
    else if (blockIdx.x & 1) backward_keys<T, D, true, false>(p, blockIdx.x >> 1);
    else backward_keys<T, D, false, true>(p, blockIdx.x >> 1);
}
