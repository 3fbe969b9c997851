// attention_bwd_q_d<D>_{bf16,f16} — dq = scale·ds·k with ds = p·(dO·vᵀ − delta), p = exp(scale·q·kᵀ − lse); saves for the
//   keys' pass lse·log2(e) and delta[b,h,i] = Σ_d dO[b,i,h,d]·o[b,i,h,d]
// Shapes: as in the forward with Tq = Tk; delta [B,H,T,2] f32.  dq strided
// Dtypes: bf16 | f16; f32 sums, ds rounded to the dtype as an operand.  Arch: sm_80+
// Flops: 6·d for each visible pair.  Bound: tensor cores; 235 to 320 TFLOP/s aimed at on H200
// Algorithm: as in the forward, with two products for ds. A warp sums delta for its own rows while the first tiles come
// Numerics: fixed order, deterministic.  Aliasing: outputs overlap nothing
// Versions: v1, 64 queries a block and a kernel for delta: 110 + 17 µs at 8×1024, 16 heads, D 64, causal (H200); v2 134 µs (H100,
//   2026-11-27): latency, not products, is its bound at this length
#pragma once
#include "pieces.cuh"
#include "tiles.cuh"

// What a warp keeps of its rows: M tiles of 16, the rows g and g + 8 of each in a lane.
template <typename T, int D> struct BackwardRows {
    using Tiles = BackwardQueriesTiles<D>;
    static constexpr int M = Tiles::M, Keys = Tiles::Keys;

    float dq[M][D / 8][4] = {};
    float shift[M][2], delta[M][2], factor;
    std::conditional_t<Tiles::InRegisters, HeldRows<D, M>, SharedRows<D, M>> q, d_o;
    int last, low[M][2];  // row g of tile m sees the keys low[m][0] to last + 64·m, row g + 8 low[m][1] to last + 64·m + 8

    // The row tiles from First on pass over Keys keys from `key` on.
    template <bool Masked, int First> __device__ __forceinline__ void pass(int key, const T* k_tile, const T* v_tile) {
        constexpr int Part = Keys < BackwardPart ? Keys : BackwardPart;
#pragma unroll 1
        for (int from = 0; from < Keys; from += Part) {
            float s[M][Part / 8][4], ds[M][Part / 8][4];
            multiply_rows<T, D, First, M>(s, q, column_address<D>(k_tile + from * TileStride<D>));
            multiply_rows<T, D, First, M>(ds, d_o, column_address<D>(v_tile + from * TileStride<D>));
#pragma unroll
            for (int m = First; m < M; m++) {
#pragma unroll
                for (int i = 0; i < Part / 2; i++) {
                    int h = i >> 1 & 1, at_key = key + from + (threadIdx.x & 3) * 2 + (i >> 2) * 8 + (i & 1);
                    float p = exp2_fast(fmaf(s[m][i >> 2][i & 3], factor, -shift[m][h]));
                    if (Masked && (at_key < low[m][h] || at_key > last + 64 * m + 8 * h)) p = 0;
                    ds[m][i >> 2][i & 3] = p * (ds[m][i >> 2][i & 3] - delta[m][h]);
                }
            }
            multiply_add<T, D, First, M>(dq, ds, block_address<D>(k_tile + from * TileStride<D>));
        }
    }
};

// Σ_d dO·o of 16 rows into sums[0..15], by one warp; also into `statistics`, which has 2 numbers a row, behind lse·log2(e).
template <typename T, int D>
__device__ __forceinline__ void sum_delta(
    float* sums, float* statistics, const float* lse, const T* d_o, long long do_stride, const T* o, long long o_stride, int rows, const AttentionShape& n) {
    constexpr int Lanes = D <= 32 ? 4 : D <= 64 ? 8 : D <= 128 ? 16 : 32, Step = 32 / Lanes;
    int row = (threadIdx.x & 31) / Lanes, c = threadIdx.x % Lanes * 8;
#pragma unroll
    for (int i = 0; i < 16; i += Step, row += Step) {
        float x[8], y[8], sum = 0;
        if (row < rows && c < n.dimension) {
            load_piece(d_o + row * do_stride, c, n.dimension, n.vectors, x);
            load_piece(o + row * o_stride, c, n.dimension, n.vectors, y);
#pragma unroll
            for (int e = 0; e < 8; e++) sum += x[e] * y[e];
        }
#pragma unroll
        for (int d = Lanes / 2; d > 0; d /= 2) sum += __shfl_xor_sync(AllLanes, sum, d);
        if (c == 0) {
            sums[row] = sum;
            if (row < rows) *reinterpret_cast<float2*>(statistics + 2 * row) = make_float2(lse[row] * Log2E, sum);
        }
    }
}

template <typename T, int D> __device__ __forceinline__ void attention_backward_q(const AttentionBackwardParams& p) {
    using Tiles = BackwardQueriesTiles<D>;
    constexpr int M = Tiles::M, Rows = 64 * M, Threads = 128, Keys = Tiles::Keys, KeyTile = Keys * TileStride<D>;
    T* q_tile = dynamic_shared<T>();
    T* do_tile = q_tile + Rows * TileStride<D>;
    T* stages = do_tile + Rows * TileStride<D>;

    const AttentionShape& n = p.shape;
    const auto [b, head, key_head, q0, rows] = QueriesOfHead<Rows>(n);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    load_tile<T, D, Rows, Threads>(q_tile, at((const T*)p.q, p.q_strides, b, q0, head), p.q_strides.row, rows, n);
    load_tile<T, D, Rows, Threads>(do_tile, at((const T*)p.d_o, p.do_strides, b, q0, head), p.do_strides.row, rows, n);
    const int* starts = p.key_start + (long long)b * n.queries + q0;
    int key = first_key(starts, rows), end = q0 + rows;
    using Loader = TileLoader<T, D, Keys, Threads>;
    Loader k(at((const T*)p.k, p.k_strides, b, key, key_head), p.k_strides.row, n);
    Loader v(at((const T*)p.v, p.v_strides, b, key, key_head), p.v_strides.row, n);
    if (key < end) k.load(stages, end - key), v.load(stages + KeyTile, end - key);

    BackwardRows<T, D> mine;
    mine.factor = n.scale * Log2E;
    int row = warp * 16 + (lane >> 2), low = 0;
    mine.last = q0 + row;
    long long first = ((long long)b * n.heads + head) * n.queries + q0;
    // The second stage is free as yet.
    float* sums = reinterpret_cast<float*>(stages + 2 * KeyTile);
#pragma unroll
    for (int m = 0; m < M; m++) {
        int at_row = 64 * m + warp * 16;
        sum_delta<T, D>(
            sums + at_row, p.delta + 2 * (first + at_row), p.lse + first + at_row,
            at((const T*)p.d_o, p.do_strides, b, q0 + at_row, head), p.do_strides.row,
            at((const T*)p.o, p.o_strides, b, q0 + at_row, head), p.o_strides.row, rows - at_row, n);
    }
    __syncwarp();
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int i = row + 64 * m + 8 * h;
            bool inside = i < rows;
            mine.low[m][h] = inside ? max(starts[i], 0) : 0;
            mine.shift[m][h] = inside ? p.lse[first + i] * Log2E : 0.0f;
            mine.delta[m][h] = sums[i];
            low = max(low, mine.low[m][h]);
        }
    }
    // From key `low` to `last` every row of the warp sees every key, and after last + 15 + 64·m none of tile m does.
    low = __reduce_max_sync(AllLanes, low);
    int last = q0 + warp * 16;
    if constexpr (Tiles::InRegisters) {
        wait_for_copies();
        __syncthreads();
    }
    mine.q.load(block_address<D>(q_tile + warp * 16 * TileStride<D>), 64 * TileStride<D> * 2);
    mine.d_o.load(block_address<D>(do_tile + warp * 16 * TileStride<D>), 64 * TileStride<D> * 2);

    for (int stage = 0; key < end; key += Keys, stage ^= 1) {
        wait_for_copies();
        __syncthreads();
        int next = key + Keys;
        T* free = stages + (stage ^ 1) * 2 * KeyTile;
        if (next < end) k.load(free, end - next), v.load(free + KeyTile, end - next);
        const T* k_tile = stages + stage * 2 * KeyTile;
        if (key >= low && key + Keys - 1 <= last) mine.template pass<false, 0>(key, k_tile, k_tile + KeyTile);
        else if (key <= last + 15) mine.template pass<true, 0>(key, k_tile, k_tile + KeyTile);
        else if (M > 1 && key <= last + 15 + 64 * (M - 1)) mine.template pass<true, M - 1>(key, k_tile, k_tile + KeyTile);
    }

    wait_for_copies();
    __syncthreads();
#pragma unroll
    for (int m = 0; m < M; m++) {
        int at_row = 64 * m + warp * 16;
        store_rows<T, D>(
            q_tile + at_row * TileStride<D>, mine.dq[m], n.scale, n.scale, at((T*)p.dq, p.dq_strides, b, q0 + at_row, head),
            p.dq_strides.row, rows - at_row, n.dimension, n.vectors);
    }
}
