// embedding_fwd — y[n] = table[ids[n]]; zeros for an id below 0, NaN (all bits set) for one of V or more
// embedding_sort — the positions n ordered by (ids[n], n), and where the run of equal ids begins for each place of that order
// embedding_bwd — table[v] += Σ dy[n] over ids[n] = v, rounded once; ids outside 0 … V − 1 are passed over
// Shapes: ids I32 [N]; table [V,D]; y, dy [N,D], without gaps.  D and the pointers may be unaligned (slower)
// Dtypes: fwd copies bytes; bwd: table f32 | bf16 | f16, dy any of them, adds in f32.  Arch: sm_80+
// Bytes: fwd 4·N + 2·N·D·e; sort 20·N a pass; bwd N·D·e + 2·U·D·e for U distinct ids.  Bound: memory, target >= 85% of copy
//   bandwidth; the sort is bound by latency (8,192 ids of 32 thousand: about 10 µs)
// Algorithm: sort: one block, least significant digit first, 8 bits a pass; each warp counts and places a slice of its own, in
//   order.  bwd: a block for each place that begins a piece (64 rows at most) of a run; of a run of several pieces each leaves
//   its sum in f32, and the block that comes last adds them up
// Numerics: a run of up to 64 rows is added to the table's row in the order of n; of a longer one, sums of 64 rows are, in that
//   order.  Which block comes last changes nothing: deterministic.  Aliasing: none
#include "../common/reduce.cuh"
#include "../common/types.cuh"

struct EmbeddingForwardParams {
    const int* ids;
    const void* table;
    void* y;
    long long count;
    int rows;
    int units;  // accesses of a row
    int unit;   // bytes of an access: 16, 8, 4 or 2
    int lanes;  // threads of a row: a power of two, at most a block's
};

constexpr int CopyThreads = 256;

template <typename U> __device__ __forceinline__ U all_bits(bool set);
template <> __device__ __forceinline__ uint16_t all_bits(bool set) { return set ? 0xffff : 0; }
template <> __device__ __forceinline__ uint32_t all_bits(bool set) { return set ? 0xffffffffu : 0; }
template <> __device__ __forceinline__ uint2 all_bits(bool set) {
    uint32_t b = all_bits<uint32_t>(set);
    return make_uint2(b, b);
}
template <> __device__ __forceinline__ uint4 all_bits(bool set) {
    uint32_t b = all_bits<uint32_t>(set);
    return make_uint4(b, b, b, b);
}

template <typename U> __device__ __forceinline__ void copy_row(const EmbeddingForwardParams& p, long long n, int lane) {
    constexpr int Unroll = 4;
    const int id = p.ids[n];
    const bool legal = (unsigned)id < (unsigned)p.rows;
    const U* from = (const U*)p.table + (legal ? (long long)id * p.units : 0);
    U* to = (U*)p.y + n * p.units;
    const U fill = all_bits<U>(id >= 0);
    for (int c = lane; c < p.units; c += Unroll * p.lanes) {
        U v[Unroll];
#pragma unroll
        for (int u = 0; u < Unroll; u++) v[u] = legal && c + u * p.lanes < p.units ? from[c + u * p.lanes] : fill;
#pragma unroll
        for (int u = 0; u < Unroll; u++)
            if (c + u * p.lanes < p.units) to[c + u * p.lanes] = v[u];
    }
}

ENGINE_PARAMS(embedding_fwd, EmbeddingForwardParams)
extern "C" __global__ void __launch_bounds__(CopyThreads) embedding_fwd(const EmbeddingForwardParams p) {
    const long long n = (long long)blockIdx.x * (CopyThreads / p.lanes) + threadIdx.x / p.lanes;
    const int lane = threadIdx.x & (p.lanes - 1);
    if (n >= p.count) return;
    if (p.unit == 16) copy_row<uint4>(p, n, lane);
    else if (p.unit == 8) copy_row<uint2>(p, n, lane);
    else if (p.unit == 4) copy_row<uint32_t>(p, n, lane);
    else copy_row<uint16_t>(p, n, lane);
}

struct EmbeddingSortParams {
    const int* ids;
    unsigned long long* even;  // [N], written by passes 0, 2, …: id << 32 | n
    unsigned long long* odd;   // [N], written by passes 1, 3
    int* start;                // [N], place where the run begins; −1 for ids outside the table
    int* arrived;              // [N], cleared
    int count;
    int rows;
    int passes;  // 8 bits each, enough for the number rows itself, which stands for every id outside the table
};

constexpr int SortWarps = 32, SortThreads = 32 * SortWarps, Digits = 256, Group = 4;

__device__ __forceinline__ unsigned long long key_of(const EmbeddingSortParams& p, const unsigned long long* source, int i) {
    if (source) return source[i];
    const unsigned id = (unsigned)p.ids[i];
    return (unsigned long long)(id < (unsigned)p.rows ? id : (unsigned)p.rows) << 32 | (unsigned)i;
}

// Turns the counts into places: those of smaller digits come first, then those of the same digit in earlier warps.
__device__ __forceinline__ void scan_counts(int (&counts)[SortWarps][Digits], int* totals) {
    constexpr int Each = SortWarps * Digits / SortThreads, Parts = SortWarps / Each;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, digit = threadIdx.x / Parts, first = threadIdx.x % Parts * Each;
    int own[Each], sum = 0;
#pragma unroll
    for (int k = 0; k < Each; k++) {
        own[k] = counts[first + k][digit];
        sum += own[k];
    }
    int upto = sum;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        int other = __shfl_up_sync(0xffffffffu, upto, d);
        if (lane >= d) upto += other;
    }
    if (lane == 31) totals[warp] = upto;
    __syncthreads();
    int place = warp_sum(lane < warp ? totals[lane] : 0) + upto - sum;
#pragma unroll
    for (int k = 0; k < Each; k++) {
        counts[first + k][digit] = place;
        place += own[k];
    }
    __syncthreads();
}

ENGINE_PARAMS(embedding_sort, EmbeddingSortParams)
extern "C" __global__ void __launch_bounds__(SortThreads) embedding_sort(const EmbeddingSortParams p) {
    __shared__ int counts[SortWarps][Digits];
    __shared__ int totals[SortWarps];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const unsigned below = (1u << lane) - 1;
    constexpr int Stride = 32 * Group;
    const long long slice = ((long long)p.count + SortWarps * Stride - 1) / (SortWarps * Stride) * Stride;
    const int begin = (int)min(slice * warp, (long long)p.count), end = (int)min(slice * (warp + 1), (long long)p.count);
    const unsigned long long* source = nullptr;
    for (int pass = 0; pass < p.passes; pass++) {
        unsigned long long* target = pass & 1 ? p.odd : p.even;
        const int shift = 32 + 8 * pass;
        for (int d = threadIdx.x; d < SortWarps * Digits; d += SortThreads) (&counts[0][0])[d] = 0;
        __syncthreads();
#pragma unroll 4
        for (int i = begin + lane; i < end; i += 32) atomicAdd(&counts[warp][key_of(p, source, i) >> shift & (Digits - 1)], 1);
        __syncthreads();
        scan_counts(counts, totals);
        for (int base = begin; base < end; base += Stride) {
            unsigned long long key[Group];
#pragma unroll
            for (int k = 0; k < Group; k++) {
                int i = base + 32 * k + lane;
                key[k] = i < end ? key_of(p, source, i) : 0;
            }
#pragma unroll
            for (int k = 0; k < Group; k++) {
                const bool valid = base + 32 * k + lane < end;
                const unsigned digit = key[k] >> shift & (Digits - 1);
                const unsigned peers = __match_any_sync(0xffffffffu, valid ? digit : (unsigned)Digits);
                const int place = valid ? counts[warp][digit] + __popc(peers & below) : 0;
                __syncwarp();
                if (valid && (peers & below) == 0) counts[warp][digit] += __popc(peers);
                __syncwarp();
                if (valid) target[place] = key[k];
            }
        }
        source = target;
        __syncthreads();
    }
    // Runs: the last beginning in each warp's slice is what the next slices start from.
    int last = -1;
    for (int base = begin; base < end; base += 32) {
        const int i = base + lane;
        const bool first = i < end && (i == 0 || source[i - 1] >> 32 != source[i] >> 32);
        const unsigned firsts = __ballot_sync(0xffffffffu, first);
        if (firsts) last = base + 31 - __clz(firsts);
    }
    if (lane == 0) totals[warp] = last;
    __syncthreads();
    last = __reduce_max_sync(0xffffffffu, lane < warp ? totals[lane] : -1);
    for (int base = begin; base < end; base += 32) {
        const int i = base + lane;
        const bool inside = i < end;
        const unsigned long long key = inside ? source[i] : 0;
        const unsigned firsts = __ballot_sync(0xffffffffu, inside && (i == 0 || source[i - 1] >> 32 != key >> 32));
        const unsigned mine = firsts & (below << 1 | 1);
        if (inside) {
            p.start[i] = (int)(key >> 32) == p.rows ? -1 : mine ? base + 31 - __clz(mine) : last;
            p.arrived[i] = 0;
        }
        if (firsts) last = base + 31 - __clz(firsts);
    }
}

struct EmbeddingBackwardParams {
    const unsigned long long* sorted;
    const int* start;
    int* arrived;
    const void* dy;
    void* table;
    float* partials;  // [2·⌈N / 64⌉, D]: for places 64·k … 64·k + 63, a piece that goes on, then a piece that begins a run
    int count;
    int columns;
    int dy_type;
    int vectors;  // nonzero: pointers and columns allow packs
};

constexpr int Piece = 64;

template <int W> __device__ __forceinline__ void load_row(const void* p, long long i, int code, float (&x)[W]) {
    if constexpr (W == 1) x[0] = load_any(p, i, code);
    else load_any_pack(p, i, code, x);
}

// The table's elements: T in packs of W, or single.
template <typename T, int W> __device__ __forceinline__ void load_table(const T* p, float (&x)[W]) {
    if constexpr (W == 1) x[0] = to_float(*p);
    else Pack<T>::load(p, x);
}

template <typename T, int W> __device__ __forceinline__ void store_table(T* p, const float (&x)[W]) {
    if constexpr (W == 1) *p = from_float<T>(x[0]);
    else Pack<T>::store(p, x);
}

// Adds the piece's rows to the table's row, or, without a table, into partial.
template <typename T, int W>
__device__ __forceinline__ void add_piece(const EmbeddingBackwardParams& p, int rows, int n0, int n1, T* table, float* partial) {
    constexpr int Unroll = W == 8 ? 2 : 4;
    for (int base = 0; base < p.columns; base += blockDim.x * W) {
        const int c = base + threadIdx.x * W;
        const bool active = c < p.columns;
        float sum[W] = {};
        if (table && active) load_table<T, W>(table + c, sum);
        for (int r = 0; r < rows; r += Unroll) {
            float v[Unroll][W];
#pragma unroll
            for (int u = 0; u < Unroll; u++) {
                const int n = __shfl_sync(0xffffffffu, r + u < 32 ? n0 : n1, (r + u) & 31);
                if (active && r + u < rows) load_row<W>(p.dy, (long long)n * p.columns + c, p.dy_type, v[u]);
            }
#pragma unroll
            for (int u = 0; u < Unroll; u++) {
                if (active && r + u < rows) {
#pragma unroll
                    for (int i = 0; i < W; i++) sum[i] += v[u][i];
                }
            }
        }
        if (active && table) store_table<T, W>(table + c, sum);
        if (active && !table) {
#pragma unroll
            for (int i = 0; i < W; i++) partial[c + i] = sum[i];
        }
    }
}

template <typename T> __device__ void embedding_backward(const EmbeddingBackwardParams& p) {
    __shared__ int shared[33];
    __shared__ int remaining;
    // All that the block may need at once, each warp for itself: the lanes hold the piece's places two by two.
    const int i = blockIdx.x, lane = threadIdx.x & 31, i0 = i + lane, i1 = i + 32 + lane;
    const int start0 = i0 < p.count ? p.start[i0] : -1, start1 = i1 < p.count ? p.start[i1] : -1;
    const int n0 = i0 < p.count ? (int)p.sorted[i0] : 0, n1 = i1 < p.count ? (int)p.sorted[i1] : 0;
    const int next = i + Piece < p.count ? p.start[i + Piece] : -1, id = (int)(p.sorted[i] >> 32);
    const int s = __shfl_sync(0xffffffffu, start0, 0);
    if (s < 0 || (i - s) % Piece != 0) return;
    const int rows = __popc(__ballot_sync(0xffffffffu, start0 == s)) + __popc(__ballot_sync(0xffffffffu, start1 == s));
    const bool more = next == s, whole = i == s && !more;
    T* table = (T*)p.table + (long long)id * p.columns;
    float* partial = p.partials + (2LL * (i / Piece) + (i == s)) * p.columns;
    if (p.vectors) add_piece<T, Pack<T>::N>(p, rows, n0, n1, whole ? table : nullptr, partial);
    else add_piece<T, 1>(p, rows, n0, n1, whole ? table : nullptr, partial);
    if (whole) return;

    // Every piece adds 1 and the last of the run takes off their number: whoever makes it 0 has come last.
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        const int change = more ? 1 : -(i - s) / Piece;
        remaining = atomicAdd(&p.arrived[s], change) + change;
    }
    __syncthreads();
    if (remaining != 0) return;
    __threadfence();
    int pieces = 0;
    for (int k = threadIdx.x; k < (p.count - s + Piece - 1) / Piece; k += blockDim.x) pieces += p.start[s + k * Piece] == s;
    pieces = block_sum(pieces, shared);
    for (int c = threadIdx.x; c < p.columns; c += blockDim.x) {
        float sum = to_float(table[c]);
        const float* part = p.partials + 2LL * (s / Piece) * p.columns + c;
        sum += __ldcg(part + p.columns);
#pragma unroll 8
        for (int k = 1; k < pieces; k++) sum += __ldcg(part + 2LL * k * p.columns);
        table[c] = from_float<T>(sum);
    }
}

ENGINE_KERNEL(embedding_bwd, EmbeddingBackwardParams, 256, embedding_backward)
