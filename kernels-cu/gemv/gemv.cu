// gemv_lora_m8, _m16 — y = x·Wᵀ + bias + scale·(x·Aᵀ)·Bᵀ for up to 8 or 16 rows of x
// Shapes: x [M,K], W [N,K], A [rank,K], B [N,rank], y [M,N] with row strides, any alignment; bias [N] or none; rank 0 … 256.
//         16-byte loads where addresses, strides and K allow
// Dtypes: bf16 | f16 (bias also f32), accumulates in f32; S = scale·x·Aᵀ stays f32.  Arch: sm_80+
// Bytes: e·(N·K + rank·(N + K) + M·(N + K)).  Bound: memory, target 85–92% of copy bandwidth on 4096 × 4096 in a chain
// Algorithm: a tile is 16 rows of W, or 32 for more than 8 rows of x, which is read anew for each tile; the 8 warps of a block that
//            stream take turns at 64 columns and add up in shared memory. W is the left operand, x the right one; the order of the
//            columns in a product is free, so a lane's 16 bytes, 8 neighbours, are what it needs for two instructions, and W goes
//            from memory to registers, two turns ahead. A block's other warps compute its units of S by the same code, 16 ranks and
//            a split of K each, from the last block down, which has the fewest tiles or none; then they wait for all units and make
//            bias + S·Bᵀ of the tile while W is on its way, so that behind W's last bytes there are eight sums to add and no load
// Numerics: fixed order; K is cut by its length and the rank alone: the same bits whatever the grid
// Progress: no more blocks than the GPU holds at once, and those that compute S do so before they wait.  The last block to have
//           what it needs of S sets the counters back to 0, as the next launch on the stream, or the next replay, finds them
// Versions: v1, S computed by the first blocks, before their tile, and W loaded turn by turn: in a chain at 4096 × 4096, r 16,
//           13.4 µs for 1 row, 59% of copy, 16.8 µs for 16 (H200, 2026-11-27); a ring of cp.async in its place was no faster
//           v2, blocks of their own for S, W ahead of its use: 1.01 and 1.16 times the library's bare product, v1 1.09 (H100, 2026-11-27)
//           v3, warps of their own for S, B and the bias; r 16, v2 beside it: 12.8 µs for 16 rows where v2 takes 16.9 and the library's
//           bare product 12.8, 11.5 for one where they take 13.2 and 12.8; r 256: 18.7 for 33.5 (a harness, H200, 2026-11-27). W by
//           a ring of cp.async gains 3% at 16 rows and loses 13 to 45% at fewer; pairs of blocks and wider blocks are slower
#include "../common/memory.cuh"
#include "../common/mma.cuh"

constexpr int StreamWarps = 8, StreamThreads = 32 * StreamWarps, MostRank = 256;

struct GemvParams {
    const void* x;
    const void* w;
    const void* bias;
    const void* a;
    const void* b;
    void* y;
    unsigned int* counters;  // units of S that are there, blocks that have ended
    float* partial;          // [splits][rank rounded up to 16][8 or 16], 16-byte aligned
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

// c[16·MT rows of m][8·NT rows of x] over the share of warp `warp` of `Warps` of the columns begin … end. V: addresses, strides
// and the number of columns are multiples of 8 elements. Rows that are not there are the last one again: what they give is not
// used. A register set is filled again as soon as its product is done, so that Depth of them are always on their way.
template <typename T, int NT, int MT, int Warps, bool V>
__device__ __forceinline__ void product(
    const GemvParams& p, const T* m, long long stride, int m_rows, int begin, int end, int warp, float (&c)[MT][NT][4]) {
    // A turn is two steps of 32 columns side by side, 128 bytes of a row.
    constexpr int Depth = V ? 4 : 2, Turn = 64 * Warps;
    int lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3;
    uint4 a[Depth][2 * MT], b[Depth][NT];
    int left = end - begin - 64 * warp - 8 * q;  // columns from this lane's place on
    const T *w[2 * MT], *x[NT];
#pragma unroll
    for (int h = 0; h < 2 * MT; h++) w[h] = m + min(8 * h + g, m_rows - 1) * stride + (end - left);
#pragma unroll
    for (int i = 0; i < NT; i++) x[i] = (const T*)p.x + min(8 * i + g, p.rows - 1) * p.x_stride + (end - left);
    auto load = [&](int u, int ahead) {
#pragma unroll
        for (int h = 0; h < 2 * MT; h++) {
            a[u][h] = make_uint4(0, 0, 0, 0);
            if (ahead < left) {
                if constexpr (V) a[u][h] = load_stream(w[h] + ahead);
                else a[u][h] = load_elements<T>(w[h] + ahead, left - ahead);
            }
        }
#pragma unroll
        for (int i = 0; i < NT; i++) {
            b[u][i] = make_uint4(0, 0, 0, 0);
            if (ahead < left) {
                if constexpr (V) b[u][i] = __ldg(reinterpret_cast<const uint4*>(x[i] + ahead));
                else b[u][i] = load_elements<T>(x[i] + ahead, left - ahead);
            }
        }
    };
#pragma unroll
    for (int u = 0; u < Depth; u++) load(u, u / 2 * Turn + u % 2 * 32);
    // The lanes of a warp stay together: the bound is that of the first.
    constexpr int Loaded = Depth / 2 * Turn;
    while (left + 8 * q > 0) {
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
        left -= Loaded;
#pragma unroll
        for (int h = 0; h < 2 * MT; h++) w[h] += Loaded;
#pragma unroll
        for (int i = 0; i < NT; i++) x[i] += Loaded;
    }
}

// Floats of a row of sums: the stores of a warp fall on 32 banks.
template <int MT> constexpr int Pitch = 16 * MT + 4;

// Floats of a warp's sums, [8·NT rows of x][16·MT rows of m].
template <int NT, int MT> constexpr int WarpSums = 8 * NT * Pitch<MT>;

// The same, left at sums[warp][row of x][row of m].
template <typename T, int NT, int MT, int Warps>
__device__ __forceinline__ void product_to_shared(
    const GemvParams& p, const T* m, long long stride, int m_rows, int begin, int end, bool vectors, int warp, float* sums) {
    float c[MT][NT][4] = {};
    if (vectors) product<T, NT, MT, Warps, true>(p, m, stride, m_rows, begin, end, warp, c);
    else product<T, NT, MT, Warps, false>(p, m, stride, m_rows, begin, end, warp, c);
    constexpr int P = Pitch<MT>;
    int lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3;
#pragma unroll
    for (int h = 0; h < MT; h++)
#pragma unroll
        for (int i = 0; i < NT; i++) {
            float* to = sums + warp * WarpSums<NT, MT> + (8 * i + 2 * q) * P + 16 * h + g;
            to[0] = c[h][i][0], to[P] = c[h][i][1], to[8] = c[h][i][2], to[P + 8] = c[h][i][3];
        }
}

// Barriers of a block's warps (PTX ISA, "bar"): of those that stream, of those beside them, and of all, which a tile has one of.
enum Barrier : int { StreamBarrier = 1, SideBarrier = 2, TileBarrier = 3 };
template <int Threads> __device__ __forceinline__ void barrier_sync(Barrier barrier) {
    asm volatile("bar.sync %0, %1;\n" ::"r"((int)barrier), "n"(Threads) : "memory");
}

// The warps that read W. Tiles have their `delta`, [8·NT][16·MT], in two places in turn: the other warps write a tile's before its
// barrier, and the place is free again at the next one.
template <typename T, int NT, int MT, int Side>
__device__ __forceinline__ void stream_tiles(const GemvParams& p, float* sums, const float* deltas) {
    constexpr int Rows = 16 * MT, Columns = 8 * NT, All = StreamThreads + 32 * Side;
    int n = threadIdx.x & 15, row = threadIdx.x >> 4, step = gridDim.x * Rows, place = 0;
    for (int n0 = blockIdx.x * Rows; n0 < p.outputs; n0 += step, place ^= 1) {
        product_to_shared<T, NT, MT, StreamWarps>(
            p, (const T*)p.w + n0 * p.w_stride, p.w_stride, p.outputs - n0, 0, p.inputs, p.vectors & 1, threadIdx.x >> 5, sums);
        barrier_sync<All>(TileBarrier);
        const float* delta = deltas + place * (Rows * Columns);
        if (row < p.rows) {
#pragma unroll
            for (int h = 0; h < MT; h++) {
                float sum = 0;
#pragma unroll
                for (int w = 0; w < StreamWarps; w++) sum += sums[w * WarpSums<NT, MT> + row * Pitch<MT> + 16 * h + n];
                sum += delta[row * Rows + 16 * h + n];
                int output = n0 + 16 * h + n;
                if (output < p.outputs) ((T*)p.y)[row * p.y_stride + output] = from_float<T>(sum);
            }
        }
        if (n0 + step < p.outputs) barrier_sync<StreamThreads>(StreamBarrier);
    }
}

// The units of S that are this block's: 16 ranks over a split of K each.
template <typename T, int NT, int Side>
__device__ __forceinline__ void publish_units(const GemvParams& p, int units, int padded, float* sums) {
    constexpr int Columns = 8 * NT;
    int t = threadIdx.x - StreamThreads;
    for (int unit = gridDim.x - 1 - blockIdx.x; unit < units; unit += gridDim.x) {
        int split = unit % p.splits, rank0 = unit / p.splits * 16;
        int begin = split * p.split_inputs, end = min(p.inputs, begin + p.split_inputs);
        product_to_shared<T, NT, 1, Side>(
            p, (const T*)p.a + rank0 * p.a_stride, p.a_stride, p.rank - rank0, begin, end, p.vectors & 2, t >> 5, sums);
        barrier_sync<32 * Side>(SideBarrier);
#pragma unroll
        for (int i = t; i < 16 * Columns; i += 32 * Side) {
            float sum = 0;
#pragma unroll
            for (int w = 0; w < Side; w++) sum += sums[w * WarpSums<NT, 1> + i % Columns * Pitch<1> + i / Columns];
            __stcg(p.partial + ((long long)split * padded + rank0) * Columns + i, p.scale * sum);
        }
        // All stores of the warps are visible on the device before the counter says so.
        __threadfence();
        barrier_sync<32 * Side>(SideBarrier);
        if (t == 0) atomicAdd(p.counters, 1u);
    }
}

// s[rank][8·NT], once all units are there; zeros behind the last rank.
template <int NT, int Side> __device__ __forceinline__ void collect_s(const GemvParams& p, int padded, float* s) {
    // Fours of a rank, and of a thread at a time.
    constexpr int Quads = 2 * NT, Batch = NT == 1 ? 1 : 4, Threads = 32 * Side;
    int all = padded * Quads;
    for (int i = threadIdx.x - StreamThreads; i < all; i += Batch * Threads) {
        const float4* from = reinterpret_cast<const float4*>(p.partial) + i;
        float4 sum[Batch];
#pragma unroll
        for (int u = 0; u < Batch; u++) sum[u] = make_float4(0, 0, 0, 0);
#pragma unroll 4
        for (int k = 0; k < p.splits; k++, from += all) {
#pragma unroll
            for (int u = 0; u < Batch; u++)
                if ((i + u * Threads) / Quads < p.rank) {
                    float4 part = __ldcg(from + u * Threads);
                    sum[u].x += part.x, sum[u].y += part.y, sum[u].z += part.z, sum[u].w += part.w;
                }
        }
#pragma unroll
        for (int u = 0; u < Batch; u++)
            if (i + u * Threads < all) reinterpret_cast<float4*>(s)[i + u * Threads] = sum[u];
    }
}

// The other warps: S, then bias + S·Bᵀ of each tile while the tile of W is on its way. `s` also holds the sums of S's units.
template <typename T, int NT, int MT, int Side>
__device__ __forceinline__ void side_tiles(const GemvParams& p, float* s, float* deltas) {
    constexpr int Rows = 16 * MT, Columns = 8 * NT, All = StreamThreads + 32 * Side;
    // A thread has `Own` elements of one row of B, and that row's next Ahead times 8 ranks in registers.
    constexpr int Own = Rows * Columns / (32 * Side), Ahead = NT == 1 ? 2 : 8;
    static_assert(Own == 2 || Own == 4, "one vector of s a rank");
    static_assert(Side * WarpSums<NT, 1> <= MostRank * Columns, "the sums of a unit fit in s");
    int t = threadIdx.x - StreamThreads, n = t % Rows, m0 = t / Rows * Own;
    int rank_tiles = (p.rank + 15) / 16, units = rank_tiles * p.splits, padded = 16 * rank_tiles;
    publish_units<T, NT, Side>(p, units, padded, s);

    int step = gridDim.x * Rows, first = blockIdx.x * Rows, place = 0;
    for (int n0 = first; n0 < p.outputs; n0 += step, place ^= 1) {
        int output = min(n0 + n, p.outputs - 1);
        const T* b = (const T*)p.b + output * p.b_stride;
        auto load = [&](int j) {
            if (j >= p.rank) return make_uint4(0, 0, 0, 0);
            if ((p.vectors & 4) && j + 8 <= p.rank) return __ldg(reinterpret_cast<const uint4*>(b + j));
            return load_elements<T>(b + j, p.rank - j);
        };
        uint4 raw[Ahead];
#pragma unroll
        for (int e = 0; e < Ahead; e++) raw[e] = load(8 * e);
        for (int j = 8 * Ahead + t / Rows * 64; j < p.rank; j += 32 * Side / Rows * 64)
            asm volatile("prefetch.global.L2 [%0];\n" ::"l"(b + j));
        float bias = p.bias != nullptr ? load_any(p.bias, output, p.bias_type) : 0;
        if (n0 == first && units > 0) {
            if (t == 0)
                while (load_acquire(p.counters) < (unsigned int)units) __nanosleep(40);
            barrier_sync<32 * Side>(SideBarrier);
            collect_s<NT, Side>(p, padded, s);
            barrier_sync<32 * Side>(SideBarrier);
        }
        float sum[Own];
#pragma unroll
        for (int i = 0; i < Own; i++) sum[i] = bias;
        for (int j = 0; j < p.rank; j += 8 * Ahead) {
#pragma unroll
            for (int e = 0; e < Ahead; e++) {
                if (j + 8 * e >= p.rank) break;
                float up[8];
                Pack<T>::load(reinterpret_cast<const T*>(&raw[e]), up);
                raw[e] = load(j + 8 * Ahead + 8 * e);
#pragma unroll
                for (int k = 0; k < 8; k++) {
                    const float* from = s + (j + 8 * e + k) * Columns + m0;
                    float down[Own];
                    if constexpr (Own == 4) *reinterpret_cast<float4*>(down) = *reinterpret_cast<const float4*>(from);
                    else *reinterpret_cast<float2*>(down) = *reinterpret_cast<const float2*>(from);
#pragma unroll
                    for (int i = 0; i < Own; i++) sum[i] = fmaf(down[i], up[k], sum[i]);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < Own; i++) deltas[place * (Rows * Columns) + (m0 + i) * Rows + n] = sum[i];
        barrier_sync<All>(TileBarrier);
    }

    if (units > 0 && t == 0) {
        // Whoever comes last has seen every other block come, and none of them reads the counters any more.
        __threadfence();
        if (atomicAdd(p.counters + 1, 1u) == gridDim.x - 1) {
            p.counters[0] = 0;
            p.counters[1] = 0;
        }
    }
}

template <typename T, int NT, int MT, int Side> __device__ __forceinline__ void gemv_body(const GemvParams& p) {
    __shared__ float sums[StreamWarps * WarpSums<NT, MT>];
    __shared__ float4 s[MostRank * 2 * NT];
    __shared__ float deltas[2 * 8 * NT * 16 * MT];
    if (threadIdx.x < StreamThreads) stream_tiles<T, NT, MT, Side>(p, sums, deltas);
    else side_tiles<T, NT, MT, Side>(p, reinterpret_cast<float*>(s), deltas);
}

// Warps beside those that stream: as many as leave these their registers.
constexpr int ShortSide = 2, LongSide = 4;
constexpr int ShortThreads = StreamThreads + 32 * ShortSide, LongThreads = StreamThreads + 32 * LongSide;

ENGINE_PARAMS(gemv_lora_m8, GemvParams)
ENGINE_PARAMS(gemv_lora_m16, GemvParams)
extern "C" __global__ void __launch_bounds__(ShortThreads, 2) gemv_lora_m8_bf16(const GemvParams p) { gemv_body<bf16, 1, 1, ShortSide>(p); }
extern "C" __global__ void __launch_bounds__(ShortThreads, 2) gemv_lora_m8_f16(const GemvParams p) { gemv_body<f16, 1, 1, ShortSide>(p); }
extern "C" __global__ void __launch_bounds__(LongThreads, 1) gemv_lora_m16_bf16(const GemvParams p) { gemv_body<bf16, 2, 2, LongSide>(p); }
extern "C" __global__ void __launch_bounds__(LongThreads, 1) gemv_lora_m16_f16(const GemvParams p) { gemv_body<f16, 2, 2, LongSide>(p); }
