// gemv_lora_m8, _m16 — y = x·Wᵀ + bias + scale·(x·Aᵀ)·Bᵀ for up to 8 or 16 rows of x
// Shapes: x [M,K], W [N,K], A [rank,K], B [N,rank], y [M,N] with row strides, any alignment; bias [N] or none; rank 0 … 256.
//         16-byte loads where addresses, strides and K allow
// Dtypes: bf16 | f16 (bias also f32), accumulates in f32; S = scale·x·Aᵀ stays f32.  Arch: sm_80+
// Bytes: e·(N·K + rank·(N + K) + M·(N + K)).  Bound: memory, target 85–92% of copy bandwidth on 4096 × 4096 in a chain
// Algorithm: a tile is 16 rows of W; the 8 warps of a block take turns at 32 columns and add up in shared memory. W is the left
//            operand, x the right one; the order of the columns in a product is free, so a lane's 16 bytes, 8 neighbours, are what it
//            needs for two instructions, and W goes from memory to registers. The first blocks compute S by the same code, 16
//            ranks and a split of K each, and publish it; all blocks stream W meanwhile and wait for S before their first tile's end
// Numerics: fixed order; K is cut by its length alone: the same bits whatever the grid
// Progress: no more blocks than the GPU holds at once, and those that compute S do so before they wait.  The last block to end
//           sets the counters back to 0, as the next launch on the stream, or the next replay, finds them
// Versions: v1, in a chain at 4096 × 4096, r 16: 13.4 µs for 1 row, 59% of copy, 16.8 µs for 16 (H200, 2026-11-27). W by cp.async
//           through a ring, 96 KB on their way a multiprocessor, was no faster
#include "../common/mma.cuh"

constexpr int GemvThreads = 256, GemvWarps = GemvThreads / 32, GemvRows = 16, MostRank = 256;

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

__device__ __forceinline__ uint4 load_stream(const void* p) {
    uint4 v;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];\n" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
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

// The product of 16 rows of m with all of x: thread m·16 + n gets that of row n of m and row m of x. The shared sums may be used
// again after a barrier.
template <typename T, int NT>
__device__ __forceinline__ float block_product(
    const GemvParams& p, const T* m, long long stride, int m_rows, int begin, int end, bool vectors, float (*sums)[8 * NT * Pitch]) {
    float c[NT][4] = {};
    if (vectors) product<T, NT, true>(p, m, stride, m_rows, begin, end, c);
    else product<T, NT, false>(p, m, stride, m_rows, begin, end, c);
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

__device__ __forceinline__ unsigned int load_acquire(const unsigned int* p) {
    unsigned int v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];\n" : "=r"(v) : "l"(p) : "memory");
    return v;
}

template <typename T, int NT> __device__ __forceinline__ void gemv_body(const GemvParams& p) {
    __shared__ float sums[GemvWarps][8 * NT * Pitch];
    __shared__ float s[8 * NT][MostRank];
    int n = threadIdx.x & 15, row = threadIdx.x >> 4;
    int rank_tiles = (p.rank + 15) / 16, units = rank_tiles * p.splits, padded = 16 * rank_tiles;
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

    bool waiting = units > 0;
    for (int n0 = blockIdx.x * GemvRows; n0 < p.outputs; n0 += gridDim.x * GemvRows) {
        // The tile's rows of B, for the end of the tile.
        for (int i = threadIdx.x; i < 16 * rank_tiles; i += GemvThreads) {
            int r = n0 + i / rank_tiles;
            if (r < p.outputs) asm volatile("prefetch.global.L2 [%0];\n" ::"l"((const T*)p.b + r * p.b_stride + i % rank_tiles * 16));
        }
        float sum = block_product<T, NT>(
            p, (const T*)p.w + n0 * p.w_stride, p.w_stride, p.outputs - n0, 0, p.inputs, p.vectors & 1, sums);
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
        if (row < p.rows && n0 + n < p.outputs) {
            if (p.bias != nullptr) sum += load_any(p.bias, n0 + n, p.bias_type);
            const T* b = (const T*)p.b + (n0 + n) * p.b_stride;
            int j = 0;
            if (p.vectors & 4) {
#pragma unroll 2
                for (; j + 8 <= p.rank; j += 8) {
                    float w[8];
                    Pack<T>::load(b + j, w);
#pragma unroll
                    for (int i = 0; i < 8; i++) sum = fmaf(s[row][j + i], w[i], sum);
                }
            }
            for (; j < p.rank; j++) sum = fmaf(s[row][j], to_float(b[j]), sum);
            ((T*)p.y)[row * p.y_stride + n0 + n] = from_float<T>(sum);
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
extern "C" __global__ void __launch_bounds__(GemvThreads, 2) gemv_lora_m8_bf16(const GemvParams p) { gemv_body<bf16, 1>(p); }
extern "C" __global__ void __launch_bounds__(GemvThreads, 2) gemv_lora_m8_f16(const GemvParams p) { gemv_body<f16, 1>(p); }
extern "C" __global__ void __launch_bounds__(GemvThreads, 2) gemv_lora_m16_bf16(const GemvParams p) { gemv_body<bf16, 2>(p); }
extern "C" __global__ void __launch_bounds__(GemvThreads, 2) gemv_lora_m16_f16(const GemvParams p) { gemv_body<f16, 2>(p); }
