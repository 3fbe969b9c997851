// gemv_lora_m8, _m16 — y = x·Wᵀ + bias + scale·(x·Aᵀ)·Bᵀ for up to 8 or 16 rows of x
// Shapes: x [M,K], W [N,K], A [rank,K], B [N,rank], y [M,N] with row strides, any alignment; bias [N] or none; rank 0 … 256.
//         16-byte loads where addresses, strides and K allow
// Dtypes: bf16 | f16 (bias also f32), accumulates in f32; S = scale·x·Aᵀ stays f32.  Arch: sm_80+
// Bytes: e·(N·K + rank·(N + K) + M·(N + K)).  Bound: memory, target 85–92% of copy bandwidth on 4096 × 4096 in a chain
// Algorithm: a tile is 16 rows of W, or 32 for more than 8 rows of x, which is read anew for each tile; the 8 warps of a block take
//            turns at 64 columns and add up in shared memory. W is the left operand, x the right one; the order of the columns in a
//            product is free, so a lane's 16 bytes, 8 neighbours, are what it needs for two instructions, and W goes from memory to
//            registers, two turns ahead. The last blocks, which have the fewest tiles or none, first compute S by the same code,
//            16 ranks and a split of K each, and publish it; all others wait for it before their first tile's end
// Numerics: fixed order; K is cut by its length alone: the same bits whatever the grid
// Progress: no more blocks than the GPU holds at once, and those that compute S do so before they wait.  The last block to end
//           sets the counters back to 0, as the next launch on the stream, or the next replay, finds them
// Versions: v1, S computed by the first blocks, before their tile, and W loaded turn by turn: in a chain at 4096 × 4096, r 16,
//           13.4 µs for 1 row, 59% of copy, 16.8 µs for 16 (H200, 2026-11-27); a ring of cp.async in its place was no faster
//           v2, blocks of their own for S, W ahead of its use: 1.01 and 1.16 times the library's bare product, v1 1.09 (H100, 2026-11-27)
#include "../common/memory.cuh"
#include "../common/mma.cuh"

constexpr int GemvThreads = 256, GemvWarps = GemvThreads / 32, MostRank = 256;

struct GemvParams {
    const void* x;
    const void* w;
    const void* bias;
    const void* a;
    const void* b;
    void* y;
    unsigned int* counters;  // units of S that are there, blocks that have ended
    float* partial;          // [splits][rank rounded up to 16][16]
    long long x_stride;
    long long w_stride;
    long long a_stride;
    long long b_stride;
    long long y_stride;
    int rows;
    int outputs;
    int inputs;
    int rank;
    int splits;
    int split_inputs;  // a multiple of 32
    int bias_type;
    int vectors;  // bit 0: x and W, bit 1: x and A, bit 2: rows of B
    float scale;
};

// 8 neighbours one by one; zeros after `count`.
template <typename T> __device__ __forceinline__ uint4 load_elements(const T* p, int count) {
    uint32_t raw[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t low = 2 * i < count ? reinterpret_cast<const uint16_t*>(p)[2 * i] : 0;
        uint32_t high = 2 * i + 1 < count ? reinterpret_cast<const uint16_t*>(p)[2 * i + 1] : 0;
        raw[i] = low | high << 16;
    }
    return make_uint4(raw[0], raw[1], raw[2], raw[3]);
}

// c[16·MT rows of m][8·NT rows of x] over this warp's share of the columns begin … end. V: addresses, strides and the number of
// columns are multiples of 8 elements. A register set is filled again as soon as its product is done, so that Depth of them are
// always on their way.
template <typename T, int NT, int MT, bool V>
__device__ __forceinline__ void product(
    const GemvParams& p, const T* m, long long stride, int m_rows, int begin, int end, float (&c)[MT][NT][4]) {
    // A turn is two steps of 32 columns side by side, 128 bytes of a row.
    constexpr int Depth = V ? 4 : 2, Turn = 64 * GemvWarps;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
    uint4 a[Depth][2 * MT], b[Depth][NT];
    int left = end - begin - 64 * warp - 8 * q;  // columns from this lane's place on
    const T* w = m + g * stride + (end - left);
    const T* x = (const T*)p.x + g * p.x_stride + (end - left);
    auto load = [&](int u, int ahead) {
#pragma unroll
        for (int h = 0; h < 2 * MT; h++) {
            a[u][h] = make_uint4(0, 0, 0, 0);
            if (ahead < left && 8 * h + g < m_rows) {
                if constexpr (V) a[u][h] = load_stream(w + 8 * h * stride + ahead);
                else a[u][h] = load_elements<T>(w + 8 * h * stride + ahead, left - ahead);
            }
        }
#pragma unroll
        for (int i = 0; i < NT; i++) {
            b[u][i] = make_uint4(0, 0, 0, 0);
            if (ahead < left && 8 * i + g < p.rows) {
                if constexpr (V) b[u][i] = __ldg(reinterpret_cast<const uint4*>(x + 8 * i * p.x_stride + ahead));
                else b[u][i] = load_elements<T>(x + 8 * i * p.x_stride + ahead, left - ahead);
            }
        }
    };
#pragma unroll
    for (int u = 0; u < Depth; u++) load(u, u / 2 * Turn + u % 2 * 32);
    // The lanes of a warp stay together: the bound is that of the first.
    constexpr int Loaded = Depth / 2 * Turn;
    for (; left + 8 * q > 0; left -= Loaded, w += Loaded, x += Loaded) {
#pragma unroll
        for (int u = 0; u < Depth; u++) {
#pragma unroll
            for (int h = 0; h < MT; h++) {
                const uint4 &upper = a[u][2 * h], &lower = a[u][2 * h + 1];
                uint32_t low[4] = {upper.x, lower.x, upper.y, lower.y}, high[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
                for (int i = 0; i < NT; i++) {
                    mma<T>(c[h][i], low, b[u][i].x, b[u][i].y);
                    mma<T>(c[h][i], high, b[u][i].z, b[u][i].w);
                }
            }
            load(u, Loaded + u / 2 * Turn + u % 2 * 32);
        }
    }
}

// Floats of a row of sums: the stores of a warp fall on 32 banks.
template <int MT> constexpr int Pitch = 16 * MT + 4;

// The product of 16·MT rows of m with all of x: thread 16·row + n gets that of rows n, n + 16, … of m and that row of x. The
// shared sums may be used again after a barrier.
template <typename T, int NT, int MT>
__device__ __forceinline__ void block_product(
    const GemvParams& p, const T* m, long long stride, int m_rows, int begin, int end, bool vectors, float* sums,
    float (&result)[MT]) {
    float c[MT][NT][4] = {};
    if (vectors) product<T, NT, MT, true>(p, m, stride, m_rows, begin, end, c);
    else product<T, NT, MT, false>(p, m, stride, m_rows, begin, end, c);
    constexpr int P = Pitch<MT>, Warp = 8 * NT * P;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
#pragma unroll
    for (int h = 0; h < MT; h++)
#pragma unroll
        for (int i = 0; i < NT; i++) {
            float* to = sums + warp * Warp + (8 * i + 2 * q) * P + 16 * h + g;
            to[0] = c[h][i][0], to[P] = c[h][i][1], to[8] = c[h][i][2], to[P + 8] = c[h][i][3];
        }
    __syncthreads();
    int n = threadIdx.x & 15, row = threadIdx.x >> 4;
#pragma unroll
    for (int h = 0; h < MT; h++) {
        result[h] = 0;
        if (row < p.rows) {
#pragma unroll
            for (int w = 0; w < GemvWarps; w++) result[h] += sums[w * Warp + row * P + 16 * h + n];
        }
    }
}

template <typename T, int NT, int MT> __device__ __forceinline__ void gemv_body(const GemvParams& p) {
    constexpr int Rows = 16 * MT, Early = MT == 1 ? 2 : 1;
    __shared__ float sums[GemvWarps * 8 * NT * Pitch<MT>];
    __shared__ float s[8 * NT][MostRank];
    int n = threadIdx.x & 15, row = threadIdx.x >> 4;
    int rank_tiles = (p.rank + 15) / 16, units = rank_tiles * p.splits, padded = 16 * rank_tiles;
    for (int unit = gridDim.x - 1 - blockIdx.x; unit < units; unit += gridDim.x) {
        int split = unit % p.splits, rank0 = unit / p.splits * 16;
        int begin = split * p.split_inputs, end = min(p.inputs, begin + p.split_inputs);
        float sum[1];
        block_product<T, NT, 1>(
            p, (const T*)p.a + rank0 * p.a_stride, p.a_stride, p.rank - rank0, begin, end, p.vectors & 2, sums, sum);
        if (row < p.rows) __stcg(p.partial + ((long long)split * padded + rank0 + n) * 16 + row, p.scale * sum[0]);
        // All stores of the block are visible on the device before the counter says so.
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) atomicAdd(p.counters, 1u);
    }

    bool waiting = units > 0;
    for (int n0 = blockIdx.x * Rows; n0 < p.outputs; n0 += gridDim.x * Rows) {
        // The tile's rows of B, for its end: the first ranks to registers, the others to the L2 cache.
        uint4 early[MT][Early];
#pragma unroll
        for (int h = 0; h < MT; h++)
#pragma unroll
            for (int j = 0; j < Early; j++)
                if ((p.vectors & 4) && 8 * j + 8 <= p.rank && n0 + 16 * h + n < p.outputs)
                    early[h][j] = __ldg(reinterpret_cast<const uint4*>((const T*)p.b + (n0 + 16 * h + n) * p.b_stride + 8 * j));
        for (int i = threadIdx.x; i < Rows * (rank_tiles - 1); i += GemvThreads) {
            int r = n0 + i / (rank_tiles - 1), tile = 1 + i % (rank_tiles - 1);
            if (r < p.outputs) asm volatile("prefetch.global.L2 [%0];\n" ::"l"((const T*)p.b + r * p.b_stride + tile * 16));
        }
        float sum[MT];
        block_product<T, NT, MT>(
            p, (const T*)p.w + n0 * p.w_stride, p.w_stride, p.outputs - n0, 0, p.inputs, p.vectors & 1, sums, sum);
        if (waiting) {
            if (threadIdx.x == 0)
                while (load_acquire(p.counters) < (unsigned int)units) __nanosleep(40);
            __syncthreads();
            for (int i = threadIdx.x; i < padded * p.rows; i += GemvThreads) {
                int j = i / p.rows, m = i % p.rows;
                float x = 0;
#pragma unroll 8
                for (int k = 0; k < p.splits; k++) x += __ldcg(p.partial + ((long long)k * padded + j) * 16 + m);
                s[m][j] = x;
            }
            waiting = false;
        }
        // Also for the sums in shared memory, which the next tile overwrites.
        __syncthreads();
#pragma unroll
        for (int h = 0; h < MT; h++) {
            int output = n0 + 16 * h + n;
            if (row >= p.rows || output >= p.outputs) continue;
            if (p.bias != nullptr) sum[h] += load_any(p.bias, output, p.bias_type);
            const T* b = (const T*)p.b + output * p.b_stride;
            int j = 0;
            if (p.vectors & 4) {
#pragma unroll
                for (int e = 0; e < Early; e++) {
                    if (8 * e + 8 > p.rank) break;
                    float w[8];
                    Pack<T>::load(reinterpret_cast<const T*>(&early[h][e]), w);
#pragma unroll
                    for (int i = 0; i < 8; i++) sum[h] = fmaf(s[row][8 * e + i], w[i], sum[h]);
                    j = 8 * e + 8;
                }
#pragma unroll 2
                for (; j + 8 <= p.rank; j += 8) {
                    float w[8];
                    Pack<T>::load(b + j, w);
#pragma unroll
                    for (int i = 0; i < 8; i++) sum[h] = fmaf(s[row][j + i], w[i], sum[h]);
                }
            }
            for (; j < p.rank; j++) sum[h] = fmaf(s[row][j], to_float(b[j]), sum[h]);
            ((T*)p.y)[row * p.y_stride + output] = from_float<T>(sum[h]);
        }
    }

    if (units > 0 && threadIdx.x == 0) {
        // Whoever comes last has seen every other block come, and none of them reads the counters any more.
        __threadfence();
        if (atomicAdd(p.counters + 1, 1u) == gridDim.x - 1) {
            p.counters[0] = 0;
            p.counters[1] = 0;
        }
    }
}

ENGINE_PARAMS(gemv_lora_m8, GemvParams)
ENGINE_PARAMS(gemv_lora_m16, GemvParams)
extern "C" __global__ void __launch_bounds__(GemvThreads, 2) gemv_lora_m8_bf16(const GemvParams p) { gemv_body<bf16, 1, 1>(p); }
extern "C" __global__ void __launch_bounds__(GemvThreads, 2) gemv_lora_m8_f16(const GemvParams p) { gemv_body<f16, 1, 1>(p); }
extern "C" __global__ void __launch_bounds__(GemvThreads, 1) gemv_lora_m16_bf16(const GemvParams p) { gemv_body<bf16, 2, 2>(p); }
extern "C" __global__ void __launch_bounds__(GemvThreads, 1) gemv_lora_m16_f16(const GemvParams p) { gemv_body<f16, 2, 2>(p); }
