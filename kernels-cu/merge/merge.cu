// merge_apply — W ← round(W + Δ), Δ = Σ scale·B·A (common/delta.cuh), for all matrices of a table in one launch
// merge_apply_slice — the same, bit for bit, where no matrix has more than one slice of factors, one adapter of rank 16 at most, and a
//   multiprocessor holds two of its blocks: 9.0, not 8.0 to 8.9
// merge_exact — the same, and per tile of 128 rows × 256 bytes the elements that round(W′ − Δ) does not bring back
// merge_undo — W ← round(W′ − Δ), then those elements;  merge_pack — all factors, in one launch
// Shapes: W [R,C] with a row stride; any alignment (16-byte accesses where it allows); factors packed, see delta.cuh
// Dtypes: W f32 | bf16 | f16, each matrix its own; A, B any float; Δ and the sum in f32.  Arch: sm_80+
// Bytes: 2·R·C·e + 6·r·(R + C), r a multiple of 16; exact: + the records.  Flops: (2r + 1)·R·C, by tensor cores six times that
//   Bound: memory, target >= 95% of copy bandwidth at rank 16. For 128 bf16 elements of a warp an H200 moves 512 bytes in 0.12 ns:
//   110 cycles of a quarter of a multiprocessor. 16 ranks take 6 mma, 39 to 48 cycles of the tensor core, and all of merge_apply's
//   instructions about 60 issue slots. The tensor cores become the bound from about rank 40 on (f32, twice the bytes: 80).
//   Factors come from L2: 1.5·r KB for a tile's 64 KB of W, read and written. A pass over W by 128 bytes of a row at a time, which
//   is what mma's results ask for, comes to 95% of copy, by 256 bytes to 98% (32 × 4096², H200, 2026-11-27)
// Algorithm: a block a tile, all copies by cp.async; a block asks at once for all that rank 16 needs, 56 KB; Δ is formed when the
//   factors are there, W added when it is. merge_apply_slice goes down strips: see strip.cuh. Two blocks a multiprocessor
// Records: placed by a prefix sum over the block, staged in shared memory, written to room that the block reserves with one
//   integer atomic: segments lie without gaps, in an order that may change from run to run, which no result shows. A tile
//   whose segment ends past the pool's capacity leaves W as it is; a second launch merges it once there is room
// Numerics: deterministic, Δ as in delta.cuh, one rounding to f32 for the sum and one to W's dtype.  Aliasing: W is changed in
//   place; matrices do not overlap
// Versions: v1 a launch a matrix, 4 × 8 elements a thread; v2 one launch, a block a tile: apply 59% of the copy rate at rank 16
//   (32 × 4096², H200, as all here but v4's and v5's H100; 2026-11-27); v3 apply walks over the tiles: 67%; v4 tensor cores, a block
//   a tile: 79%; v5 tensor cores, apply walks over the tiles: 72%; v6 v4 with a third block for a slice: 79%, and 69% for Llama 8B's
//   matrices; v7 strips for a slice: 83% and 82% (3.5 TB/s), a single 4096² 25.5 µs instead of 31. v6 and v7 side by side in a
//   harness; lora_bench.py: 73% and 83% for 8192×28672 (aab7228 and 2f00308, H100); v8 blocks that stay: 87 to 89% for 32 × 4096²
//   where v7 has 83%, 86% for Llama 8B's matrices where it has 81% (a harness, H200); on an H100 both have 85% (lora_bench.py at
//   c47f44a, 8192×28672), where a pass without products has 82 to 88%. GPUs of 8.0 to 8.9 went by v7's strips and go by tiles again
#include "apply.cuh"
#include "report.cuh"

struct MergeParams {
    MergeTable table;
    unsigned char* segments;
    int* counts;               // records of each tile
    long long* begins;         // where each tile's segment begins
    unsigned long long* used;  // exact: bytes reserved, records; zeros before
    long long capacity;        // exact, undo: tiles whose segment ends after this have not been merged
    int rest;                  // exact: nonzero merges those, into segments that are long enough
    int strips;                // apply_slice: of all matrices
};

// The sum of x over the threads before this one, and over all.
__device__ __forceinline__ int exclusive_sum(int x, int& total) {
    __shared__ int sums[DeltaThreads / 32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = x;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        int y = __shfl_up_sync(0xffffffffu, sum, d);
        if (lane >= d) sum += y;
    }
    if (lane == 31) sums[warp] = sum;
    __syncthreads();
    int before = 0;
    total = 0;
#pragma unroll
    for (int i = 0; i < DeltaThreads / 32; i++) {
        if (i < warp) before += sums[i];
        total += sums[i];
    }
    return before + sum - x;
}

enum MergeMode { Exact, Undo };

// A list takes 2 bytes of place for each element; where it would be longer than the tile, the tile is kept. Segments take
// multiples of 16 bytes.
template <typename T> struct Segment {
    using U = typename Word<T>::U;
    int kept, listed;

    __device__ __forceinline__ Segment(const DeltaTile<T>& t, int records)
        : kept(t.rows * t.columns * (int)sizeof(U)), listed(records * (int)(sizeof(U) + 2)) {}
    __device__ __forceinline__ bool is_copy() const { return listed > kept; }
    __device__ __forceinline__ int bytes() const { return (min(listed, kept) + 15) & ~15; }
};

// A tile that was kept as a whole lies row by row, without gaps.
template <typename T> __device__ __forceinline__ void restore_copy(const DeltaTile<T>& t, const unsigned char* segment) {
    using U = typename Word<T>::U;
    const U* from = (const U*)segment;
    if (t.fast) {
#pragma unroll
        for (int i = 0; i < DeltaPieces; i++)
            if (t.valid(i) > 0)
                *reinterpret_cast<uint4*>(t.at(i)) = *reinterpret_cast<const uint4*>(from + t.row_of(i) * t.columns + t.column);
        return;
    }
    for (int i = threadIdx.x; i < t.rows * t.columns; i += DeltaThreads)
        t.corner[i / t.columns * t.stride + i % t.columns] = from[i];
}

template <typename T>
__device__ __forceinline__ void keep_copy(const DeltaTile<T>& t, const uint4* pieces, const Segment<T>& s, unsigned char* segment) {
    using D = DeltaTile<T>;
    using U = typename D::U;
    const uint4* own = D::slots(pieces);
#pragma unroll 1
    for (int i = 0; i < DeltaPieces; i++) {
        const int valid = min(t.valid(i), D::N);
        const uint4* from = own + i * DeltaThreads;
        U* to = (U*)segment + t.row_of(i) * t.columns + t.column;
        if (t.columns % D::N == 0) {
            if (valid > 0) *reinterpret_cast<uint4*>(to) = *from;
        } else {
#pragma unroll 1
            for (int n = 0; n < valid; n++) to[n] = ((const U*)from)[n];
        }
    }
    if (s.kept + (int)threadIdx.x < s.bytes()) segment[s.kept + threadIdx.x] = 0;
}

template <typename T>
__device__ __forceinline__ void restore_list(const DeltaTile<T>& t, const unsigned char* segment, int records) {
    using U = typename Word<T>::U;
    const U* originals = (const U*)segment;
    const uint16_t* places = (const uint16_t*)(originals + records);
    for (int i = threadIdx.x; i < records; i += DeltaThreads)
        t.corner[places[i] / DeltaTile<T>::Columns * t.stride + places[i] % DeltaTile<T>::Columns] = originals[i];
}

template <typename T, MergeMode Mode>
__device__ __forceinline__ void merge_tile(const MergeParams& p, const MergeMatrix& m, uint4* shared) {
    using D = DeltaTile<T>;
    using W = Word<T>;
    using U = typename W::U;
    constexpr int N = D::N, H = W::H;
    const int tile = blockIdx.x;
    uint4* pieces = shared + DeltaFactorQuads;

    const unsigned char* segment = nullptr;
    int records = 0;
    if (Mode == Undo || (Mode == Exact && p.rest)) {
        const DeltaTile<T> t = tile_of<T>(m, tile);
        records = p.counts[tile];
        const Segment<T> s(t, records);
        const long long begin = p.begins[tile];
        const bool was_merged = begin + s.bytes() <= p.capacity;
        if (was_merged != (Mode == Undo)) return;
        segment = p.segments + begin;
        if (Mode == Undo && s.is_copy()) {
            restore_copy(t, segment);
            return;
        }
    }

    float delta[DeltaPieces][N];
    delta_tile<T>(m.factors, [&] { return tile_of<T>(m, hidden(tile)); }, shared, pieces, delta);
    const DeltaTile<T> t = tile_of<T>(m, hidden(tile));

    // Bit i·N + n: element n of piece i does not come back.
    uint32_t differs[DeltaPieces * N / 32] = {};
    const uint4* own = D::slots(pieces);
    Words results[DeltaPieces];
#pragma unroll
    for (int i = 0; i < DeltaPieces; i++) {
        const Words words = words_of(own[i * DeltaThreads]);
        uint32_t bits = 0;
#pragma unroll
        for (int c = 0; c < 4; c++) {
            float x[H];
            W::split(words.w[c], x);
#pragma unroll
            for (int h = 0; h < H; h++)
                x[h] = Mode == Undo ? __fsub_rn(x[h], delta[i][c * H + h]) : __fadd_rn(x[h], delta[i][c * H + h]);
            results[i].w[c] = W::join(x);
            if (Mode == Exact) {
                W::split(results[i].w[c], x);
#pragma unroll
                for (int h = 0; h < H; h++) x[h] = __fsub_rn(x[h], delta[i][c * H + h]);
                const uint32_t back = W::join(x) ^ words.w[c];
                if (H == 1 ? back : back & 0xffff) bits |= 1u << (c * H);
                if (H == 2 && back >> 16) bits |= 2u << (c * H);
            }
        }
        if (Mode == Exact) {
            // Beyond W Δ is 0, or NaN where a factor is no finite number.
            const int valid = t.valid(i);
            if (valid < N) bits &= (1u << max(valid, 0)) - 1;
            differs[i * N / 32] |= bits << (i * N % 32);
        }
    }

    if (Mode == Undo) {
        store_pieces(t, results, 0, pieces);
        // The threads' own stores are before the barrier, so the records win. Where they are is looked up again, not kept in
        // registers, which are scarce.
        __syncthreads();
        const int again = hidden(tile);
        restore_list(t, p.segments + p.begins[again], p.counts[again]);
    }

    if (Mode == Exact) {
        int count = 0, total;
#pragma unroll
        for (int i = 0; i < DeltaPieces * N / 32; i++) count += __popc(differs[i]);
        int at = exclusive_sum(count, total);
        const Segment<T> s(t, total);
        unsigned char* out = const_cast<unsigned char*>(segment);
        if (!p.rest) {
            __shared__ long long place;
            if (threadIdx.x == 0) {
                place = 0;
                if (total > 0) {
                    place = (long long)atomicAdd(p.used, (unsigned long long)s.bytes());
                    atomicAdd(p.used + 1, (unsigned long long)total);
                }
                p.counts[tile] = total;
                p.begins[tile] = place;
            }
            __syncthreads();
            if (place + s.bytes() > p.capacity) {
                // What it reserved of the pool is copied with the rest, and rewritten by the second launch.
                for (long long i = place + 16 * threadIdx.x; i + 16 <= p.capacity; i += 16 * DeltaThreads)
                    *(uint4*)(p.segments + i) = make_uint4(0, 0, 0, 0);
                return;
            }
            out = p.segments + place;
        }
        if (s.is_copy()) {
            keep_copy(t, pieces, s, out);
        } else {
            // Everybody is past the factors since the prefix sum. The thread's bits one by one: most threads have few.
            U* originals = (U*)shared;
            uint16_t* places = (uint16_t*)(originals + total);
#pragma unroll
            for (int i = 0; i < DeltaPieces; i += 32 / N) {
                const U* from = (const U*)(own + i * DeltaThreads);
                const int place = t.row_of(i) * D::Columns + t.column;
                for (uint32_t rest = differs[i * N / 32]; rest; rest &= rest - 1, at++) {
                    const int bit = __ffs(rest) - 1, piece = bit / N;
                    originals[at] = from[piece * (DeltaThreads * N) + bit % N];
                    places[at] = (uint16_t)(place + (N == 8 ? piece : t.row_of(piece) - t.first) * D::Columns + bit % N);
                }
            }
            __syncthreads();
            for (int i = threadIdx.x; i < s.bytes() / 16; i += DeltaThreads) ((uint4*)out)[i] = ((const uint4*)shared)[i];
        }
        store_pieces(t, results, 0, pieces);
    }
}

template <MergeMode Mode> __device__ __forceinline__ void merge(const MergeParams& p) {
    uint4* shared = dynamic_shared<uint4>();
    const MergeMatrix& m = matrix_of(p.table, blockIdx.x);
    if (m.type == BF16) merge_tile<bf16, Mode>(p, m, shared);
    else if (m.type == F16) merge_tile<f16, Mode>(p, m, shared);
    else merge_tile<float, Mode>(p, m, shared);
}

static_assert(DeltaFactorQuads >= DeltaTileQuads && DeltaTileQuads * 16 / sizeof(bf16) <= 1 << 16,
              "a list fits in the factors' place, a place in 2 bytes");

ENGINE_PARAMS(merge_apply, MergeParams)
ENGINE_PARAMS(merge_apply_slice, MergeParams)
ENGINE_PARAMS(merge_exact, MergeParams)
ENGINE_PARAMS(merge_undo, MergeParams)

// Two blocks a multiprocessor: a thread holds its part of W and of Δ in registers, or of Δ and of the right factor.
extern "C" __global__ void __launch_bounds__(DeltaThreads, 2) merge_apply_slice(const MergeParams p) {
    apply_strips(p.table, p.strips, dynamic_shared<uint4>());
}
extern "C" __global__ void __launch_bounds__(DeltaThreads, 2) merge_apply(const MergeParams p) { apply_tiles(p.table); }
extern "C" __global__ void __launch_bounds__(DeltaThreads, 2) merge_exact(const MergeParams p) { merge<Exact>(p); }
extern "C" __global__ void __launch_bounds__(DeltaThreads, 2) merge_undo(const MergeParams p) { merge<Undo>(p); }

struct MergePackParams {
    const DeltaPackParams* packs;  // null: `only` is the one there is
    long long count;
    DeltaPackParams only;
};

ENGINE_PARAMS(merge_pack, MergePackParams)
extern "C" __global__ void __launch_bounds__(DeltaThreads) merge_pack(const MergePackParams p) {
    DeltaPackParams own = p.only;
    if (p.packs) own = *entry_of(p.packs, p.count, (int)blockIdx.x);
    delta_pack(own);
}
