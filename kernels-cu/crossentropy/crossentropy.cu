// crossentropy_fwd, crossentropy_long, crossentropy_cluster — losses[r] = log Σⱼ exp(x[r,j]) − x[r,label];
//   dx[r,j] = (softmax(x[r])[j] − [j = label])·scale
// Shapes: x, dx [R,V] with row strides; labels I32 [R]; losses [R] f32; scale by value or f32 [1].  Any alignment
// Dtypes: x and dx each f32 | bf16 | f16; computes in f32.  Arch: sm_80+; crossentropy_cluster: sm_90
// Bytes: R·V·(e + e') with a gradient, R·V·e without.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: one block a row.  Pass 1 takes maximum and sum in one read: each thread scales what it has summed when its
//   maximum rises (Milakov and Gimelshein, 2018, arXiv:1805.02867), then the block joins them.  Pass 2 writes the gradient.
//   Between them the row stays in shared memory, where it comes by cp.async, all of it at once, or as much as has room. Of rows
//   that do not fit, crossentropy_long keeps 128 KB more in the registers of half the threads. Pass 2 reads only the rest again,
//   the end first, which is what the L2 cache has got last; what passes by once is marked as the first to leave that cache.
//   16-byte accesses from the first aligned element on, single ones before and after.
//   crossentropy_cluster has 2, 4 or 8 blocks a row, by its length, each with a part that stays in its shared memory whole, three
//   or four of them to a multiprocessor; their maxima and sums meet in each other's shared memory. One row's reads, exchange and
//   writes, which have to follow one another, overlap with those of others
// Numerics: deterministic. Fixed reduction order by V and alignment to 16 bytes alone, whatever is kept; crossentropy_fwd's and
//   crossentropy_long's is the same, crossentropy_cluster's another.  A label of −100 gives loss 0 and a gradient of zeros; any
//   other label outside 0 … V − 1 gives NaN in both.  Aliasing: dx may be x
// Versions: v1 read the row twice, the second time from beyond the L2 cache, which the rows of all blocks overflow: 59% of copy
//   for 2048 × 50257 from f32 to bf16 (H200); v2 95% there, 71% for 128256, of which 38% stay in shared memory (H100, 2026-11-27);
//   v3 there 70% stay in a multiprocessor, and the rest of all blocks' rows, 20 MB, has room in the L2 cache: 71% where v2 has 63%
//   (H200, 2026-11-27), and in place in a training step 57% for 1024 × 128256, 73% for 1664 × 50257, bf16, where one block's
//   phases leave a multiprocessor idle; v4 crossentropy_cluster: 1024 × 128256 in 190 µs, 97% of copy, v3 221; 1664 × 50257 in 121
//   (97%), v3 124 (old and new side by side in a harness, H100, 2026-11-27); engine bench op: 95% for 2048 × 128256 (b8db937,
//   H100). Parts then began at whole lines of 128 bytes
#include "softmax.cuh"
// The host's pass declares what the device's has.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#include "cluster.cuh"
#endif

// How much of a row a thread keeps at most: groups in shared memory, packs in registers.
struct Short {
    static constexpr int Threads = 1024, Stages = 4, Held = 0;
};
struct Long {
    static constexpr int Threads = 512, Stages = 7, Held = 16;
};
static_assert(Long::Held % kGroup == 0, "whole groups");

// Pack k and the next ones at a distance of the block: the whole groups before `end`, several on their way at once, then what is
// left there.
template <typename T, int Groups> __device__ __forceinline__ void add_groups(RunningSum& running, const uint4* from, int k, int end) {
    const int step = blockDim.x;
    auto group = [&](int at, uint4(&raw)[kGroup]) {
#pragma unroll
        for (int u = 0; u < kGroup; u++) raw[u] = from[at + u * step];
    };
    for (; Groups > 1 && k + (Groups * kGroup - 1) * step < end; k += Groups * kGroup * step) {
        uint4 raw[Groups][kGroup];
#pragma unroll
        for (int g = 0; g < Groups; g++) group(k + g * kGroup * step, raw[g]);
#pragma unroll
        for (int g = 0; g < Groups; g++) add_packs<T>(running, raw[g]);
    }
    for (; k + (kGroup - 1) * step < end; k += kGroup * step) {
        uint4 raw[kGroup];
        group(k, raw);
        add_packs<T>(running, raw);
    }
    for (; k < end; k += step) {
        const uint4 raw[1] = {from[k]};
        add_packs<T>(running, raw);
    }
}

// A row: columns up to `head` and from `head` + N·`packs` on by themselves, between them whole packs, of which the first `kept`
// have a copy in shared memory, the next ones in registers: the thread's i-th is number `kept` + threadIdx.x + i·blockDim.x.
template <typename T, typename Kind> struct Row {
    static constexpr int N = Pack<T>::N;
    static constexpr bool IsLong = Kind::Held > 0;
    const T* x;
    uint4* keep;
    int columns, head, packs, kept;
    uint4 held[IsLong ? Kind::Held : 1];

    __device__ __forceinline__ Row(const T* x, int columns, int kept) : x(x), keep(dynamic_shared<uint4>()), columns(columns) {
        head = unaligned_head(x, columns);
        packs = (columns - head) / N;
        this->kept = min(kept, packs);
    }

    __device__ __forceinline__ const uint4* body() const { return (const uint4*)(x + head); }

    // Sends for what is kept, a group a stage, and for what is held.
    __device__ __forceinline__ void start() {
        const int step = blockDim.x;
        if (kept > 0) {
#pragma unroll
            for (int s = 0; s < Kind::Stages; s++) {
#pragma unroll
                for (int u = 0; u < kGroup; u++) {
                    const int k = threadIdx.x + (s * kGroup + u) * step;
                    if (k < kept) {
                        if (IsLong) copy_16_by(read_once(), shared_address(keep + k), body() + k);
                        else copy_async<16>(keep + k, body() + k, true);
                    }
                }
                commit_copies();
            }
        }
#pragma unroll
        for (int i = 0; i < Kind::Held; i++) {
            const int k = kept + threadIdx.x + i * step;
            if (k < packs) held[i] = __ldcs(body() + k);
        }
    }

    template <int Stage> __device__ __forceinline__ void add_kept(RunningSum& running) const {
        if constexpr (Stage < Kind::Stages) {
            wait_for_groups<Kind::Stages - 1 - Stage>();
            const int from = Stage * kGroup * (int)blockDim.x;
            add_groups<T, 1>(running, keep, from + threadIdx.x, min(kept, from + kGroup * (int)blockDim.x));
            add_kept<Stage + 1>(running);
        }
    }

    __device__ __forceinline__ void add_held(RunningSum& running) const {
        const int step = blockDim.x;
#pragma unroll
        for (int i = 0; i < Kind::Held; i += kGroup) {
            const int k = kept + threadIdx.x + i * step;
            if (k + (kGroup - 1) * step < packs) {
                const uint4 raw[kGroup] = {held[i], held[i + 1], held[i + 2], held[i + 3]};
                add_packs<T>(running, raw);
                continue;
            }
#pragma unroll
            for (int u = 0; u < kGroup - 1; u++) {
                const uint4 raw[1] = {held[i + u]};
                if (k + u * step < packs) add_packs<T>(running, raw);
            }
        }
    }

    // Each thread adds its packs in their order, in the same groups wherever they are kept.
    __device__ __forceinline__ RunningSum sum() const {
        RunningSum running;
        if ((int)threadIdx.x < head) running.add(to_float(x[threadIdx.x]));
        if (kept > 0) add_kept<0>(running);
        add_held(running);
        // f32 needs few registers beside the raw packs.
        add_groups<T, IsLong && sizeof(T) == 4 ? 2 : 1>(running, body(), kept + Kind::Held * (int)blockDim.x + threadIdx.x, packs);
        const int tail = head + packs * N + threadIdx.x;
        if (tail < columns) running.add(to_float(x[tail]));
        return running;
    }
};

// Stores are aligned; loads are when x and dx are out of step by whole packs only.
template <typename T, typename Kind, typename G>
__device__ __forceinline__ void write_gradient(
    const Row<T, Kind>& row, G* dx, float max, float factor, int label, float at_label, float scale) {
    constexpr int N = Pack<T>::N, W = N > Pack<G>::N ? N : Pack<G>::N, U = 16 / W;
    constexpr bool Once = row.IsLong;
    const Softmax<G> softmax(max, factor);
    const int columns = row.columns, head = unaligned_head(dx, columns), units = (columns - head) / W, step = blockDim.x;
    const bool aligned = aligned16(row.x + head);
    // Shared memory and the row's packs are aligned alike.
    const T* keep = (const T*)row.keep;
    const int kept = row.kept * N;
    auto load = [&](int k, float(&v)[W]) {
        const int c = head + k * W, at = c - row.head;
        if (at >= 0 && at + W <= kept) load_columns<T, W>(keep + at, aligned, v);
        else load_columns<T, W>(row.x + c, aligned, v);
    };
    auto store = [&](int k, float(&v)[W]) {
#pragma unroll
        for (int i = 0; i < W; i++) v[i] = softmax.of(v[i]);
        store_columns<Once>(dx + head + k * W, v);
    };
    // The units from the last one on down.
    auto write = [&](int from, int to) {
        auto own = [&](int end) { return (end - (int)threadIdx.x + step - 1) / step; };
        int j = own(to);
        const int first = own(from);
        auto unit = [&](int i) { return (int)threadIdx.x + i * step; };
        for (; j - U >= first; j -= U) {
            float v[U][W];
#pragma unroll
            for (int u = 0; u < U; u++) load(unit(j - 1 - u), v[u]);
#pragma unroll
            for (int u = 0; u < U; u++) store(unit(j - 1 - u), v[u]);
        }
        for (; j > first; j--) {
            float v[W];
            load(unit(j - 1), v);
            store(unit(j - 1), v);
        }
    };
    auto single = [&](int c) { dx[c] = from_float<G>(softmax.of(to_float(row.x[c]))); };
    if ((int)threadIdx.x < head) single(threadIdx.x);
    const int tail = head + units * W + threadIdx.x;
    if (tail < columns) single(tail);
    if (Once && head == row.head) {
        // Packs and units begin together, and so do the parts of the row.
        const int from = min(kept / W, units), to = min((kept + Kind::Held * step * N) / W, units);
        write(to, units);
#pragma unroll
        for (int i = 0; i < Kind::Held; i++) {
            const int k = row.kept + threadIdx.x + i * step;
            if (k < to * (W / N)) {
                uint4 raw = row.held[i];
                // Unpacked again: as floats, kept from pass 1, they would not fit.
                asm volatile("" : "+r"(raw.x), "+r"(raw.y), "+r"(raw.z), "+r"(raw.w));
                float v[N];
                Pack<T>::load((const T*)&raw, v);
#pragma unroll
                for (int n = 0; n < N; n++) v[n] = softmax.of(v[n]);
                store_columns<Once>(dx + head + k * N, v);
            }
        }
        write(0, from);
    } else {
        write(0, units);
    }
    // Once more the label's element, when it has been written without its −1.
    __syncthreads();
    if (threadIdx.x == 0 && (unsigned)label < (unsigned)columns) dx[label] = from_float<G>(softmax.of(at_label) - scale);
}

// The block's maximum and Σ exp(x − maximum), for each thread. One barrier: behind it all have read the row.
__device__ __forceinline__ RunningSum join(const RunningSum& mine) {
    __shared__ float maxima[Short::Threads / 32], sums[Short::Threads / 32];
    const int lane = threadIdx.x & 31, warps = blockDim.x >> 5;
    RunningSum all;
    all.max = warp_max(mine.max);
    all.sum = warp_sum(mine.sum * exp_term(mine.max - all.reference()));
    if (lane == 0) maxima[threadIdx.x >> 5] = all.max, sums[threadIdx.x >> 5] = all.sum;
    __syncthreads();
    const float max = lane < warps ? maxima[lane] : -INFINITY, sum = lane < warps ? sums[lane] : 0.0f;
    all.max = warp_max(max);
    all.sum = warp_sum(sum * exp_term(max - all.reference()));
    return all;
}

// head and tail are shorter than a warp, and a block has at least one.
template <typename T, typename Kind> __device__ __forceinline__ void crossentropy(const CrossEntropyParams& p) {
    const long long row = blockIdx.x, at = row * p.dx_stride;
    Row<T, Kind> x((const T*)p.x + row * p.x_stride, p.columns, p.kept);
    x.start();
    const int label = p.labels[row];
    if (label == IgnoredLabel) {
        wait_for_copies();
        if (threadIdx.x == 0) p.losses[row] = 0;
        if (p.dx) {
            if (p.dx_type == F32) write_zeros((uint32_t*)p.dx + at, p.columns);
            else write_zeros((uint16_t*)p.dx + at, p.columns);
        }
        return;
    }
    const bool legal = (unsigned)label < (unsigned)p.columns;
    const float at_label = legal ? to_float(x.x[label]) : NAN;
    const float scale = legal ? (p.grad_scale ? *p.grad_scale : p.scale) : NAN;
    const RunningSum all = join(x.sum());
    if (threadIdx.x == 0) p.losses[row] = (float)((double)all.max - (double)at_label + (double)logf(all.sum));
    // Every thread's part of the row is read now, which may be where the gradient goes, and its copies are there.
    const float factor = scale / all.sum;
    if (!p.dx) return;
    if (p.dx_type == F32) write_gradient(x, (float*)p.dx + at, all.max, factor, label, at_label, scale);
    else if (p.dx_type == BF16) write_gradient(x, (bf16*)p.dx + at, all.max, factor, label, at_label, scale);
    else write_gradient(x, (f16*)p.dx + at, all.max, factor, label, at_label, scale);
}

template <typename T> __device__ void short_row(const CrossEntropyParams& p) { crossentropy<T, Short>(p); }
template <typename T> __device__ void long_row(const CrossEntropyParams& p) { crossentropy<T, Long>(p); }

ENGINE_KERNEL(crossentropy_fwd, CrossEntropyParams, Short::Threads, short_row)
ENGINE_KERNEL(crossentropy_long, CrossEntropyParams, Long::Threads, long_row)
