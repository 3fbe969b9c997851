// lowrank_down — S = scale·X·Aᵀ, in the columns that follow each row of X
// Shapes: X [M,K] any stride that is a multiple of 8; A [R,K] likewise, R a multiple of 8 up to 8·Tiles; S [M,R], even stride
// Dtypes: bf16 | f16, f32 sums.  Arch: sm_80+
// Bytes: M·K·e + R·K·e + M·R·e.  Flops: 2·M·K·R.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: a block owns 64 rows and a range of K; chunks of 128 columns of X and A arrive by cp.async in a ring of 5 or 6; a warp
//   multiplies 16 rows by all of A along one half of each chunk. Where rows are few, several blocks share K: their f32 partial
//   sums go to scratch, and the one that comes last adds them up in order. Row blocks run backwards: what the producer wrote last
//   is still in the L2 cache.
// Numerics: the scale is applied to the f32 sum, rounded once.  Deterministic: the ranges depend on the shape alone
// Versions: v1, 4 warps and chunks of 64: 52% of copy at 8192×4096, r 16, bound by the latency of a chunk (H200, 2026-11-27)
//   v2, 8 warps, chunks of 128 in a ring of 4: 67% of copy at 8192×14336, r 16 (H200, 2026-11-27);  v3, a ring of 6
#pragma once
#include "params.cuh"

struct LowRankDownParams {
    const void* x;
    const void* a;
    void* s;
    float* partial;       // [row blocks][splits][64][8·Tiles]
    unsigned* counters;   // a zero for each row block
    long long x_stride;
    long long a_stride;
    long long s_stride;
    long long rows;
    int inputs;           // K, a multiple of 8
    int width;            // R, a multiple of 8, at most 8·Tiles
    int splits;
    int split_chunks;     // chunks of 128 columns for each block
    LowRankStack stack;
};

constexpr int DownThreads = 256, DownRows = 64, DownChunk = 128;

// One block a multiprocessor has to keep its share of the memory busy alone: 64 KB on their way and more.
template <int Tiles> constexpr int DownRing = Tiles <= 2 ? 6 : 5;

template <int Tiles> constexpr int DownStage = (DownRows + Tiles * 8) * DownChunk;

__device__ __forceinline__ float scale_of(const LowRankStack& stack, int column) {
    float scale = 0;
#pragma unroll
    for (int i = 0; i < MostLinears; i++)
        if (i < stack.count && column >= stack.linears[i].at && column < stack.linears[i].at + stack.linears[i].width)
            scale = stack.linears[i].scale;
    return scale;
}

template <typename T, int Tiles> __device__ void lowrank_down(const LowRankDownParams& p) {
    constexpr int R = Tiles * 8, DownStages = DownRing<Tiles>;
    T* shared = dynamic_shared<T>();
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int split = blockIdx.x % p.splits;
    long long row_block = gridDim.x / p.splits - 1 - blockIdx.x / p.splits;
    long long first_row = row_block * DownRows;
    int begin = split * p.split_chunks, end = min(begin + p.split_chunks, (p.inputs + DownChunk - 1) / DownChunk);

    const T* x = (const T*)p.x + first_row * p.x_stride;
    const T* a = (const T*)p.a;
    int rows = (int)min((long long)DownRows, p.rows - first_row);
    auto load = [&](int chunk) {
        if (chunk < end) {
            T* tile = shared + (chunk - begin) % DownStages * DownStage<Tiles>;
            constexpr int Step = DownThreads / (DownChunk / 8);
            int column = threadIdx.x % (DownChunk / 8) * 8, k = chunk * DownChunk + column;
#pragma unroll
            for (int i = 0; i < DownRows; i += Step) {
                int row = i + threadIdx.x / (DownChunk / 8);
                copy_async_16(tile + tile_offset<DownChunk>(row, column), x + row * p.x_stride + k, row < rows && k < p.inputs);
            }
            T* lora = tile + DownRows * DownChunk;
#pragma unroll
            for (int i = 0; i < R; i += Step) {
                int row = i + threadIdx.x / (DownChunk / 8);
                if (R % Step == 0 || row < R)
                    copy_async_16(lora + tile_offset<DownChunk>(row, column), a + row * p.a_stride + k, row < p.width && k < p.inputs);
            }
        }
        commit_copies();
    };

    float c[Tiles][4];
#pragma unroll
    for (int n = 0; n < Tiles; n++) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
#pragma unroll
    for (int i = 0; i < DownStages - 1; i++) load(begin + i);
    for (int chunk = begin; chunk < end; chunk++) {
        wait_for_groups<DownStages - 2>();
        __syncthreads();
        load(chunk + DownStages - 1);
        const T* tile = shared + (chunk - begin) % DownStages * DownStage<Tiles>;
        const T* lora = tile + DownRows * DownChunk;
        int half = (warp >> 2) * (DownChunk / 2);
#pragma unroll
        for (int step = 0; step < DownChunk / 2; step += 16) {
            uint32_t f[4];
            int k = half + step;
            load_matrices(f, shared_address(tile + tile_offset<DownChunk>((warp & 3) * 16 + (lane & 15), k + (lane >> 4) * 8)));
#pragma unroll
            for (int n = 0; n < Tiles; n += 2) {
                // Of an odd last tile the second half is read twice and not used.
                int row = n * 8 + (lane & 7) + (n + 1 < Tiles ? lane >> 4 : 0) * 8;
                uint32_t b[4];
                load_matrices(b, shared_address(lora + tile_offset<DownChunk>(row, k + ((lane >> 3) & 1) * 8)));
                mma<T>(c[n], f, b[0], b[1]);
                if (n + 1 < Tiles) mma<T>(c[n + 1], f, b[2], b[3]);
            }
        }
    }
    wait_for_copies();

    // The second half of the warps hands its sums over.
    int g = lane >> 2, t = (lane & 3) * 2, strip = (warp & 3) * 16;
    float* halves = (float*)shared;
    __syncthreads();
    if (warp >= 4)
#pragma unroll
        for (int n = 0; n < Tiles; n++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                *(float2*)(halves + (strip + g + h * 8) * R + n * 8 + t) = make_float2(c[n][2 * h], c[n][2 * h + 1]);
    __syncthreads();
    if (warp < 4)
#pragma unroll
        for (int n = 0; n < Tiles; n++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float2 other = *(const float2*)(halves + (strip + g + h * 8) * R + n * 8 + t);
                c[n][2 * h] += other.x, c[n][2 * h + 1] += other.y;
            }
    if (p.splits > 1) {
        float* mine = p.partial + (row_block * p.splits + split) * (DownRows * R);
        if (warp < 4)
#pragma unroll
            for (int n = 0; n < Tiles; n++)
#pragma unroll
                for (int h = 0; h < 2; h++)
                    __stcg((float2*)(mine + (strip + g + h * 8) * R + n * 8 + t), make_float2(c[n][2 * h], c[n][2 * h + 1]));
        if (!arrives_last(p.counters + row_block, p.splits)) return;
        const float* all = p.partial + row_block * p.splits * (DownRows * R);
        if (warp >= 4) return;
#pragma unroll
        for (int n = 0; n < Tiles; n++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float2 sum = make_float2(0, 0);
                const float* from = all + (strip + g + h * 8) * R + n * 8 + t;
                for (int i = 0; i < p.splits; i++) {
                    float2 part = __ldcg((const float2*)(from + i * (DownRows * R)));
                    sum.x += part.x, sum.y += part.y;
                }
                c[n][2 * h] = sum.x, c[n][2 * h + 1] = sum.y;
            }
    }
    if (warp >= 4) return;
#pragma unroll
    for (int n = 0; n < Tiles; n++) {
        float scale = scale_of(p.stack, n * 8);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = strip + g + h * 8;
            if (row < rows && n * 8 < p.width)
                *(uint32_t*)((T*)p.s + (first_row + row) * p.s_stride + n * 8 + t) =
                    pack2<T>(c[n][2 * h] * scale, c[n][2 * h + 1] * scale);
        }
    }
}
