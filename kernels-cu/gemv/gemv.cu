// gemv_lora_m8, _m16 — y = x·Wᵀ + bias + scale·(x·Aᵀ)·Bᵀ for up to 8 or 16 rows of x
// Shapes: x [M,K], W [N,K], A [rank,K], B [N,rank], y [M,N] with row strides, any alignment; bias [N] or none; rank 0 … 256.
//         16-byte copies where addresses, strides and K allow
// Dtypes: bf16 | f16 (bias also f32), accumulates in f32; S = scale·x·Aᵀ stays f32.  Arch: sm_80+
// Bytes: e·(N·K + rank·(N + K) + M·(N + K)).  Bound: memory, target 85–92% of copy bandwidth on 4096 × 4096 in a chain
// Algorithm: a tile is 16 rows of W, or 32 for more than 8 rows of x, which are then read half as often; the 8 warps of a block
//            take turns at 64 columns and add up in shared memory. W is the left operand, x the right one; the order of the columns in
//            a product is free, so a lane's 16 bytes, 8 neighbours, are what it needs for two instructions. Each lane copies its
//            own pieces of W into a ring and reads them back: no barrier in the stream, which runs on into the next tile, with
//            three stages, 96 KB on a multiprocessor, on their way. The first blocks compute S, 16 ranks and a split of K each,
//            once their rings are filling, and publish it; each warp fetches S shortly before the end of its first tile
// Numerics: fixed order; K is cut by its length alone: the same bits whatever the grid
// Progress: no more blocks than the GPU holds at once, and those that compute S do so before they wait.  The last block to end
//           sets the counters back to 0, as the next launch on the stream, or the next replay, finds them
// Versions: v1, W to registers, no copies ahead: 60% of copy on 4096 × 4096 in a chain at M = 1, 50% at M = 16 (H200, 2026-11-27)
#include "../common/mma.cuh"

constexpr int GemvThreads = 256, GemvWarps = GemvThreads / 32, GemvRows = 16, MostRank = 256;
constexpr int RingStages = 4, RingColumns = 64;

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
    int ring;     // where bit 0 is set: tiles of 16 rows that go through the ring at once; 0: none
    float scale;
};

__device__ __forceinline__ uint4 load_stream(const void* p) {
    uint4 v;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];\n" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

// In the place where it stands, that is, ahead of its use.
__device__ __forceinline__ uint4 load_ahead(const void* p) {
    uint4 v;
    asm volatile("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];\n" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}

__device__ __forceinline__ uint64_t read_once_policy() {
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;\n" : "=l"(policy));
    return policy;
}

// copy_async_16 for what is read once.
__device__ __forceinline__ void copy_once_16(uint32_t to, const void* from, bool copy, uint64_t policy) {
    int bytes = copy ? 16 : 0;
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;\n" ::"r"(to), "l"(from), "r"(bytes), "l"(policy)
                 : "memory");
}

// After the wait for the copies and before the next ones.
__device__ __forceinline__ uint4 load_ring(uint32_t address) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];\n" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address) : "memory");
    return v;
}

// 8 neighbours one by one; zeros past the end.
template <typename T> __device__ __forceinline__ uint4 load_elements(const T* row, int k, int columns) {
    uint32_t raw[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int c = k + 2 * i;
        uint32_t low = c < columns ? reinterpret_cast<const uint16_t*>(row)[c] : 0;
        uint32_t high = c + 1 < columns ? reinterpret_cast<const uint16_t*>(row)[c + 1] : 0;
        raw[i] = low | high << 16;
    }
    return make_uint4(raw[0], raw[1], raw[2], raw[3]);
}

// c[16 rows of m][8·NT rows of x] over this warp's share of the columns begin … end. V: addresses, strides and the number of
// columns are multiples of 8 elements.
template <typename T, int NT, bool V>
__device__ __forceinline__ void product(
    const GemvParams& p, const T* m, long long stride, int m_rows, int begin, int end, float (&c)[NT][4]) {
    constexpr int Unroll = V ? (NT == 1 ? 4 : 3) : 1, Step = 32 * GemvWarps;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
    const uint4 zero = make_uint4(0, 0, 0, 0);
    bool first = g < m_rows, second = g + 8 < m_rows;
    const T* upper = m + g * stride;
    const T* lower = upper + 8 * stride;
    for (int at = begin + 32 * warp; at < end; at += Step * Unroll) {
        uint4 a0[Unroll], a1[Unroll], b[Unroll][NT];
#pragma unroll
        for (int u = 0; u < Unroll; u++) {
            int k = at + Step * u + 8 * q;
            bool inside = k < end;
            if constexpr (V) {
                a0[u] = inside && first ? load_stream(upper + k) : zero;
                a1[u] = inside && second ? load_stream(lower + k) : zero;
            } else {
                a0[u] = inside && first ? load_elements<T>(upper, k, p.inputs) : zero;
                a1[u] = inside && second ? load_elements<T>(lower, k, p.inputs) : zero;
            }
        }
#pragma unroll
        for (int u = 0; u < Unroll; u++) {
            int k = at + Step * u + 8 * q;
#pragma unroll
            for (int i = 0; i < NT; i++) {
                bool there = k < end && 8 * i + g < p.rows;
                const T* x = (const T*)p.x + (8 * i + g) * p.x_stride;
                if constexpr (V) b[u][i] = there ? __ldg(reinterpret_cast<const uint4*>(x + k)) : zero;
                else b[u][i] = there ? load_elements<T>(x, k, p.inputs) : zero;
            }
        }
#pragma unroll
        for (int u = 0; u < Unroll; u++) {
            uint32_t low[4] = {a0[u].x, a1[u].x, a0[u].y, a1[u].y}, high[4] = {a0[u].z, a1[u].z, a0[u].w, a1[u].w};
#pragma unroll
            for (int i = 0; i < NT; i++) {
                mma<T>(c[i], low, b[u][i].x, b[u][i].y);
                mma<T>(c[i], high, b[u][i].z, b[u][i].w);
            }
        }
    }
}

constexpr int Pitch = 20;  // the stores of a warp fall on 32 banks

// The sums of the warps' shares of 16 rows of m with all of x: thread m·16 + n gets that of row n of m and row m of x. The shared
// sums may be used again after a barrier.
template <int NT>
__device__ __forceinline__ float block_sum(const GemvParams& p, const float (&c)[NT][4], float (*sums)[8 * NT * Pitch]) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
#pragma unroll
    for (int i = 0; i < NT; i++) {
        float* to = sums[warp] + (8 * i + 2 * q) * Pitch + g;
        to[0] = c[i][0], to[Pitch] = c[i][1], to[8] = c[i][2], to[Pitch + 8] = c[i][3];
    }
    __syncthreads();
    int n = threadIdx.x & 15, row = threadIdx.x >> 4;
    float sum = 0;
    if (row < p.rows) {
#pragma unroll
        for (int w = 0; w < GemvWarps; w++) sum += sums[w][row * Pitch + n];
    }
    return sum;
}

template <typename T, int NT>
__device__ __forceinline__ float block_product(
    const GemvParams& p, const T* m, long long stride, int m_rows, int begin, int end, bool vectors, float (*sums)[8 * NT * Pitch]) {
    float c[NT][4] = {};
    if (vectors) product<T, NT, true>(p, m, stride, m_rows, begin, end, c);
    else product<T, NT, false>(p, m, stride, m_rows, begin, end, c);
    return block_sum<NT>(p, c, sums);
}

__device__ __forceinline__ unsigned int load_acquire(const unsigned int* p) {
    unsigned int v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];\n" : "=r"(v) : "l"(p) : "memory");
    return v;
}

__device__ __forceinline__ int units_of(const GemvParams& p) { return (p.rank + 15) / 16 * p.splits; }

// This block's units of S.
template <typename T, int NT> __device__ __forceinline__ void publish(const GemvParams& p, float (*sums)[8 * NT * Pitch]) {
    int n = threadIdx.x & 15, row = threadIdx.x >> 4, units = units_of(p), padded = (p.rank + 15) / 16 * 16;
    for (int unit = blockIdx.x; unit < units; unit += gridDim.x) {
        int split = unit % p.splits, rank0 = unit / p.splits * 16;
        int begin = split * p.split_inputs, end = min(p.inputs, begin + p.split_inputs);
        float sum = block_product<T, NT>(
            p, (const T*)p.a + rank0 * p.a_stride, p.a_stride, p.rank - rank0, begin, end, p.vectors & 2, sums);
        if (row < p.rows) __stcg(p.partial + ((long long)split * padded + rank0 + n) * 16 + row, p.scale * sum);
        // All stores of the block are visible on the device before the counter says so.
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) atomicAdd(p.counters, 1u);
    }
}

// This warp's share of S, once all of it is there; a barrier must follow. The block has published its own units.
__device__ __forceinline__ void fetch(const GemvParams& p, float (*s)[MostRank]) {
    int padded = (p.rank + 15) / 16 * 16;
    if ((int)(threadIdx.x & ~31) >= padded * p.rows) return;
    if ((threadIdx.x & 31) == 0)
        while (load_acquire(p.counters) < (unsigned int)units_of(p)) __nanosleep(40);
    __syncwarp();
    for (int i = threadIdx.x; i < padded * p.rows; i += GemvThreads) {
        int j = i / p.rows, m = i % p.rows;
        float x = 0;
#pragma unroll 8
        for (int k = 0; k < p.splits; k++) x += __ldcg(p.partial + ((long long)k * padded + j) * 16 + m);
        s[m][j] = x;
    }
}

// The rows of B of a tile, for its end.
template <typename T> __device__ __forceinline__ void prefetch_b(const GemvParams& p, int n0, int rows) {
    int rank_tiles = (p.rank + 15) / 16;
    for (int i = threadIdx.x; i < rows * rank_tiles; i += GemvThreads) {
        int r = n0 + i / rank_tiles;
        if (r < p.outputs) asm volatile("prefetch.global.L2 [%0];\n" ::"l"((const T*)p.b + r * p.b_stride + i % rank_tiles * 16));
    }
}

// One element of y.
template <typename T> __device__ __forceinline__ void finish(const GemvParams& p, int row, int n, float sum, const float* s) {
    if (row >= p.rows || n >= p.outputs) return;
    if (p.bias != nullptr) sum += load_any(p.bias, n, p.bias_type);
    const T* b = (const T*)p.b + n * p.b_stride;
    int j = 0;
    if (p.vectors & 4) {
#pragma unroll 2
        for (; j + 8 <= p.rank; j += 8) {
            float w[8];
            Pack<T>::load(b + j, w);
#pragma unroll
            for (int i = 0; i < 8; i++) sum = fmaf(s[j + i], w[i], sum);
        }
    }
    for (; j < p.rank; j++) sum = fmaf(s[j], to_float(b[j]), sum);
    ((T*)p.y)[row * p.y_stride + n] = from_float<T>(sum);
}

// S and all of the block's tiles, 16·RT rows each, with W through the ring.
template <typename T, int NT, int RT>
__device__ __forceinline__ void ring_tiles(const GemvParams& p, float (*sums)[8 * NT * Pitch], float (*s)[MostRank]) {
    constexpr int Rows = GemvRows * RT, Pieces = 4 * RT, Stage = Pieces * 32 * 16, Step = RingColumns * GemvWarps;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
    int first = RingColumns * warp, column = 8 * q;
    uint32_t ring = shared_address(dynamic_shared<uint4>()) + warp * (RingStages * Stage) + lane * 16;
    uint64_t policy = read_once_policy();

    // The next columns of this warp, of this tile or the next; past the last ones an empty group.
    int next_n = blockIdx.x * Rows, next_k = first;
    uint32_t next_stage = 0;
    auto request = [&] {
        if (next_n < p.outputs && next_k < p.inputs) {
            const T* from = (const T*)p.w + (next_n + g) * p.w_stride + next_k + column;
#pragma unroll
            for (int r = 0; r < 2 * RT; r++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    bool there = next_n + g + 8 * r < p.outputs && next_k + column + 32 * h < p.inputs;
                    copy_once_16(
                        ring + next_stage + (2 * r + h) * 512, there ? from + 8 * r * p.w_stride + 32 * h : p.w, there, policy);
                }
            next_k += Step;
            if (next_k >= p.inputs) next_k = first, next_n += gridDim.x * Rows;
        }
        commit_copies();
        next_stage = next_stage == (RingStages - 1) * Stage ? 0 : next_stage + Stage;
    };
#pragma unroll
    for (int i = 0; i < RingStages - 1; i++) request();

    // x a turn ahead, in registers.
    const uint4 zero = make_uint4(0, 0, 0, 0);
    uint4 ahead[NT][2];
    auto load_x = [&](int k) {
#pragma unroll
        for (int i = 0; i < NT; i++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                ahead[i][h] = zero;
                if (8 * i + g < p.rows && k + column + 32 * h < p.inputs)
                    ahead[i][h] = load_ahead((const T*)p.x + (8 * i + g) * p.x_stride + k + column + 32 * h);
            }
    };
    load_x(first);
    publish<T, NT>(p, sums);
    // The shared sums are free: publish ends with a barrier after their last use.

    bool waiting = p.rank > 0;
    uint32_t stage = 0;
    for (int n0 = blockIdx.x * Rows; n0 < p.outputs; n0 += gridDim.x * Rows) {
        prefetch_b<T>(p, n0, Rows);
        float c[RT][NT][4] = {};
        for (int k = first; k < p.inputs; k += Step) {
            wait_for_groups<RingStages - 2>();
            // Into the stage that the last turn has read.
            request();
            uint4 x[NT][2];
#pragma unroll
            for (int i = 0; i < NT; i++) x[i][0] = ahead[i][0], x[i][1] = ahead[i][1];
            load_x(k + Step < p.inputs ? k + Step : first);
#pragma unroll
            for (int h = 0; h < 2; h++)
#pragma unroll
                for (int t = 0; t < RT; t++) {
                    uint4 a0 = load_ring(ring + stage + (4 * t + h) * 512), a1 = load_ring(ring + stage + (4 * t + 2 + h) * 512);
                    uint32_t low[4] = {a0.x, a1.x, a0.y, a1.y}, high[4] = {a0.z, a1.z, a0.w, a1.w};
#pragma unroll
                    for (int i = 0; i < NT; i++) {
                        mma<T>(c[t][i], low, x[i][h].x, x[i][h].y);
                        mma<T>(c[t][i], high, x[i][h].z, x[i][h].w);
                    }
                }
            stage = stage == (RingStages - 1) * Stage ? 0 : stage + Stage;
            if (waiting && k + 3 * Step >= p.inputs) {
                fetch(p, s);
                waiting = false;
            }
        }
        if (waiting) fetch(p, s);
        waiting = false;
#pragma unroll
        for (int t = 0; t < RT; t++) {
            float sum = block_sum<NT>(p, c[t], sums);
            __syncthreads();
            int row = threadIdx.x >> 4;
            finish<T>(p, row, n0 + GemvRows * t + (threadIdx.x & 15), sum, s[row % (8 * NT)]);
        }
    }
    wait_for_copies();
}

template <typename T, int NT> __device__ __forceinline__ void gemv_body(const GemvParams& p) {
    __shared__ float sums[GemvWarps][8 * NT * Pitch];
    __shared__ float s[8 * NT][MostRank];
    if (p.ring == 1) {
        ring_tiles<T, NT, 1>(p, sums, s);
    } else if (NT == 2 && p.ring == 2) {
        ring_tiles<T, NT, NT>(p, sums, s);
    } else {
        publish<T, NT>(p, sums);
        bool waiting = p.rank > 0;
        for (int n0 = blockIdx.x * GemvRows; n0 < p.outputs; n0 += gridDim.x * GemvRows) {
            prefetch_b<T>(p, n0, GemvRows);
            float sum = block_product<T, NT>(
                p, (const T*)p.w + n0 * p.w_stride, p.w_stride, p.outputs - n0, 0, p.inputs, p.vectors & 1, sums);
            if (waiting) fetch(p, s);
            waiting = false;
            // Also for the sums in shared memory, which the next tile overwrites.
            __syncthreads();
            int row = threadIdx.x >> 4;
            finish<T>(p, row, n0 + (threadIdx.x & 15), sum, s[row % (8 * NT)]);
        }
    }

    if (p.rank > 0 && threadIdx.x == 0) {
        // All warps have fetched S before the barrier at the end of the first tile, so that the block reads the counters no more.
        // Whoever comes last has seen every other block come.
        __threadfence();
        if (atomicAdd(p.counters + 1, 1u) == gridDim.x - 1) {
            p.counters[0] = 0;
            p.counters[1] = 0;
        }
    }
}

ENGINE_PARAMS(gemv_lora_m8, GemvParams)
ENGINE_PARAMS(gemv_lora_m16, GemvParams)
extern "C" __global__ void __launch_bounds__(GemvThreads, 2) gemv_lora_m8_bf16(const GemvParams p) { gemv_body<bf16, 1>(p); }
extern "C" __global__ void __launch_bounds__(GemvThreads, 2) gemv_lora_m8_f16(const GemvParams p) { gemv_body<f16, 1>(p); }
extern "C" __global__ void __launch_bounds__(GemvThreads, 2) gemv_lora_m16_bf16(const GemvParams p) { gemv_body<bf16, 2>(p); }
extern "C" __global__ void __launch_bounds__(GemvThreads, 2) gemv_lora_m16_f16(const GemvParams p) { gemv_body<f16, 2>(p); }
