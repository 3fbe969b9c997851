// attention_fwd_d<D>_{bf16,f16} — o = softmax(scale·q·kᵀ)·v over the visible keys; saves lse = ln Σ_j exp(s[i,j])
// Shapes: q, o [B,Tq,H,d]; k, v [B,Tk,Hkv,d], d <= D, strides free but that of d; any alignment (16 bytes is the fast one)
// Dtypes: bf16 | f16; scores, softmax and sums f32, probabilities rounded to the dtype for the second product.  Arch: sm_80+
// Flops: 4·d for each visible pair.  Bound: tensor cores; 190 (D 64) to 290 (D 128) TFLOP/s aimed at on H200
// Algorithm: FlashAttention-2 (Dao 2023): a block has 64 queries, a warp 16 of them; K and V tiles come by cp.async into
//   two stages, one barrier a tile; scores, probabilities and outputs stay in registers; tiles that nobody sees are skipped
// Numerics: fixed order, deterministic.  Aliasing: none
#pragma once
#include "tiles.cuh"

template <typename T, int D> __device__ __forceinline__ void attention_forward(const AttentionForwardParams& p) {
    constexpr int Rows = 64, Threads = 128, Keys = D > 128 ? 32 : 64, KeyTile = Keys * TileStride<D>;
    // Where registers allow, the queries' fragments stay in them, and their tile is only a station in the second stage.
    constexpr bool InRegisters = D <= 128;
    T* k_tiles = dynamic_shared<T>();
    T* v_tiles = k_tiles + 2 * KeyTile;
    T* q_tile = InRegisters ? k_tiles + KeyTile : v_tiles + 2 * KeyTile;

    const AttentionShape& n = p.shape;
    TileOfHead place(blockIdx.x, n.batch, n.heads);
    // The last queries see the most keys: their blocks come first.
    int q0 = ((n.queries - 1) / Rows - place.tile) * Rows, rows = min(Rows, n.queries - q0);
    int b = place.b, head = place.head, key_head = head / (n.heads / n.key_heads);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const T* k = at((const T*)p.k, p.k_strides, b, 0, key_head);
    const T* v = at((const T*)p.v, p.v_strides, b, 0, key_head);
    const int* starts = p.key_start + (long long)b * n.queries + q0;
    int key = first_key(starts, rows), end = n.query_offset + q0 + rows;

    load_tile<T, D, Rows, Threads>(q_tile, at((const T*)p.q, p.q_strides, b, q0, head), p.q_strides.row, rows, n.dimension, n.vectors);
    if (key < end) {
        load_tile<T, D, Keys, Threads>(k_tiles, k + key * p.k_strides.row, p.k_strides.row, end - key, n.dimension, n.vectors);
        load_tile<T, D, Keys, Threads>(v_tiles, v + key * p.v_strides.row, p.v_strides.row, end - key, n.dimension, n.vectors);
    }

    // A lane has two rows, g and g + 8, and sees of them the keys low..last. Rows beyond the last query are never written.
    int row = warp * 16 + (lane >> 2);
    int low0 = row < rows ? max(starts[row], 0) : 0, low1 = row + 8 < rows ? max(starts[row + 8], 0) : 0;
    int last0 = n.query_offset + q0 + row, last1 = last0 + 8;
    int warp_low = __reduce_max_sync(AllLanes, max(low0, low1)), warp_last = n.query_offset + q0 + warp * 16;

    float o[D / 8][4] = {};
    float m0 = -INFINITY, m1 = -INFINITY, sum0 = 0, sum1 = 0;
    float factor = n.scale * Log2E;
    bool positive = factor > 0;
    uint32_t q_address = block_address<D>(q_tile + warp * 16 * TileStride<D>);
    uint32_t q[InRegisters ? D / 16 : 1][4];
    wait_for_copies();
    __syncthreads();
    if constexpr (InRegisters) {
#pragma unroll
        for (int step = 0; step < D / 16; step++) load_matrices(q[step], q_address + step * 32);
    }

    for (int stage = 0; key < end; key += Keys, stage ^= 1) {
        // The tile has come, and everyone has finished with the other stage.
        wait_for_copies();
        __syncthreads();
        int next = key + Keys;
        if (next < end) {
            T* k_next = k_tiles + (stage ^ 1) * KeyTile;
            T* v_next = v_tiles + (stage ^ 1) * KeyTile;
            load_tile<T, D, Keys, Threads>(k_next, k + next * p.k_strides.row, p.k_strides.row, end - next, n.dimension, n.vectors);
            load_tile<T, D, Keys, Threads>(v_next, v + next * p.v_strides.row, p.v_strides.row, end - next, n.dimension, n.vectors);
        }

        float s[Keys / 8][4];
        uint32_t k_address = column_address<D>(k_tiles + stage * KeyTile);
        if constexpr (InRegisters) multiply_rows<T, D>(s, q, k_address);
        else multiply_rows<T, D>(s, q_address, k_address);

        // The scale is applied inside the exponent, which needs it to be positive: max and −∞ have to survive it.
        float c = factor;
        if (!positive) {
#pragma unroll
            for (int j = 0; j < Keys / 8; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) s[j][e] *= factor;
            }
            c = 1;
        }
        if (key < warp_low || key + Keys - 1 > warp_last) {
            int column = key + (lane & 3) * 2;
#pragma unroll
            for (int j = 0; j < Keys / 8; j++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int at_key = column + j * 8 + e;
                    if (at_key < low0 || at_key > last0) s[j][e] = -INFINITY;
                    if (at_key < low1 || at_key > last1) s[j][2 + e] = -INFINITY;
                }
            }
        }

        float new0 = m0, new1 = m1;
#pragma unroll
        for (int j = 0; j < Keys / 8; j++) {
            new0 = fmaxf(new0, fmaxf(s[j][0], s[j][1]));
            new1 = fmaxf(new1, fmaxf(s[j][2], s[j][3]));
        }
#pragma unroll
        for (int d = 1; d < 4; d *= 2) {
            new0 = fmaxf(new0, __shfl_xor_sync(AllLanes, new0, d));
            new1 = fmaxf(new1, __shfl_xor_sync(AllLanes, new1, d));
        }
        // While a row has seen no key its maximum is −∞, and −∞ − (−∞) is NaN: subtract 0 instead.
        float shift0 = new0 == -INFINITY ? 0.0f : new0 * c, shift1 = new1 == -INFINITY ? 0.0f : new1 * c;
        float correction0 = exp2_fast(m0 * c - shift0), correction1 = exp2_fast(m1 * c - shift1);
        m0 = new0, m1 = new1;
        sum0 *= correction0, sum1 *= correction1;
#pragma unroll
        for (int j = 0; j < Keys / 8; j++) {
            s[j][0] = exp2_fast(fmaf(s[j][0], c, -shift0));
            s[j][1] = exp2_fast(fmaf(s[j][1], c, -shift0));
            s[j][2] = exp2_fast(fmaf(s[j][2], c, -shift1));
            s[j][3] = exp2_fast(fmaf(s[j][3], c, -shift1));
            sum0 += s[j][0] + s[j][1];
            sum1 += s[j][2] + s[j][3];
        }
        // The maxima change seldom after the first tiles.
        if (__any_sync(AllLanes, correction0 != 1.0f || correction1 != 1.0f)) {
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                o[j][0] *= correction0, o[j][1] *= correction0;
                o[j][2] *= correction1, o[j][3] *= correction1;
            }
        }
        multiply_add<T, D>(o, s, block_address<D>(v_tiles + stage * KeyTile));
    }

#pragma unroll
    for (int d = 1; d < 4; d *= 2) {
        sum0 += __shfl_xor_sync(AllLanes, sum0, d);
        sum1 += __shfl_xor_sync(AllLanes, sum1, d);
    }
    if (p.lse && (lane & 3) == 0) {
        float* lse = p.lse + ((long long)b * n.heads + head) * n.queries + q0;
        float unit = positive ? n.scale : 1 / Log2E;
        if (row < rows) lse[row] = sum0 == 0 ? -INFINITY : m0 * unit + logf(sum0);
        if (row + 8 < rows) lse[row + 8] = sum1 == 0 ? -INFINITY : m1 * unit + logf(sum1);
    }
    // The stages are free once everyone is here; each warp takes the rows that it alone wrote and reads.
    __syncthreads();
    store_rows<T, D>(
        k_tiles + warp * 16 * TileStride<D>, o, sum0 == 0 ? 0.0f : 1 / sum0, sum1 == 0 ? 0.0f : 1 / sum1,
        at((T*)p.o, p.o_strides, b, q0 + warp * 16, head), p.o_strides.row, rows - warp * 16, n.dimension, n.vectors);
}
