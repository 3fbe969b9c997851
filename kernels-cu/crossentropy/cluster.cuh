// A row over a cluster of C blocks, for 9.0: each keeps its part in shared memory, so that parts of several rows lie on a
// multiprocessor at once and one row's reads, exchange and writes overlap with another's. Header in crossentropy.cu.
#pragma once
#include "softmax.cuh"

constexpr int ClusterThreads = 256;
constexpr int ClusterBlocks = 4;  // a multiprocessor, as far as registers matter
constexpr int ClusterStages = 4;  // groups of copies that are waited for one after the other

// Everything a block of the cluster wrote before it arrives is seen by those that have waited: both are fences unless told
// otherwise.
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive;\n" ::: "memory"); }
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait;\n" ::: "memory"); }

// Stores a pair where block `rank` of the cluster has what is at `shared` here.
__device__ __forceinline__ void store_to_block(float2* shared, int rank, float2 pair) {
    asm volatile("{\n"
                 ".reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "st.shared::cluster.v2.f32 [there], {%2, %3};\n"
                 "}\n" ::"r"(shared_address(shared)), "r"(rank), "f"(pair.x), "f"(pair.y)
                 : "memory");
}

// Columns of a row from `begin` on, one block's: the packs from column `head` of the part on are kept; what is before them, in
// the row's first part, and behind them, in its last, is the edges, of which a thread holds at most one.
template <typename T, int C, int Threads> struct Part {
    static constexpr int N = Pack<T>::N;
    static_assert(2 * 16 / sizeof(T) <= Threads, "an edge a thread");
    const T* x;
    uint4* keep;
    int begin, columns, head, packs, groups;
    float edge;

    // `most`: packs of a part, eight or a multiple; C parts have room for the row.
    __device__ __forceinline__ Part(const T* row, int row_columns, int most, int rank) : keep(dynamic_shared<uint4>()) {
        const int row_head = unaligned_head(row, row_columns), row_packs = (row_columns - row_head) / N;
        const int first = min(rank * most, row_packs), last = min(first + most, row_packs);
        begin = rank == 0 ? 0 : row_head + first * N;
        columns = (rank == C - 1 ? row_columns : row_head + last * N) - begin;
        head = rank == 0 ? row_head : 0;
        packs = last - first;
        x = row + begin;
        constexpr int StagePacks = ClusterStages * kGroup * Threads;
        groups = (most + StagePacks - 1) / StagePacks;
    }

    __device__ __forceinline__ static int edge_column(int head, int columns_between) {
        return (int)threadIdx.x < head ? threadIdx.x : threadIdx.x + columns_between;
    }

    // Sends for all of it at once.
    __device__ __forceinline__ void start() {
        const uint64_t policy = read_once();
        // One address for each side that moves on: a shared one takes the block's number in the cluster to make.
        const uint4* from = (const uint4*)(x + head) + threadIdx.x;
        uint32_t to = shared_address(keep + threadIdx.x);
        int left = packs - (int)threadIdx.x;
#pragma unroll
        for (int s = 0; s < ClusterStages; s++) {
#pragma unroll 1
            for (int g = 0; g < groups; g++) {
#pragma unroll
                for (int u = 0; u < kGroup; u++)
                    if (u * Threads < left) copy_16_by(policy, to + u * Threads * 16, from + u * Threads);
                from += kGroup * Threads, to += kGroup * Threads * 16, left -= kGroup * Threads;
            }
            commit_copies();
        }
        const int column = edge_column(head, packs * N);
        edge = column < columns ? to_float(x[column]) : -INFINITY;
    }

    template <int Stage> __device__ __forceinline__ void add_stages(RunningSum& running, int k) const {
        if constexpr (Stage < ClusterStages) {
            wait_for_groups<ClusterStages - 1 - Stage>();
#pragma unroll 1
            for (int g = 0; g < groups; g++, k += kGroup * Threads) {
                if (k + (kGroup - 1) * Threads < packs) {
                    uint4 raw[kGroup];
#pragma unroll
                    for (int u = 0; u < kGroup; u++) raw[u] = keep[k + u * Threads];
                    add_packs<T>(running, raw);
                    continue;
                }
#pragma unroll
                for (int u = 0; u < kGroup - 1; u++) {
                    if (k + u * Threads >= packs) break;
                    const uint4 raw[1] = {keep[k + u * Threads]};
                    add_packs<T>(running, raw);
                }
            }
            add_stages<Stage + 1>(running, k);
        }
    }

    // Each thread adds what it has copied itself, in that order, then its edge.
    __device__ __forceinline__ RunningSum sum() const {
        RunningSum running;
        add_stages<0>(running, threadIdx.x);
        if (edge_column(head, packs * N) < columns) running.add(edge);
        return running;
    }

    // The packs and the gradient's units begin at the same column: all units are kept.
    template <bool InStep, typename G, int W>
    __device__ __forceinline__ void write_units(G* dx, int dx_head, int units, const Softmax<G>& softmax) const {
        constexpr int U = 16 / W;
        const T* kept = (const T*)keep;
        const bool aligned = aligned16(x + dx_head);
        auto load = [&](int k, float(&v)[W]) {
            const int at = dx_head + k * W - head;
            if constexpr (InStep) {
#pragma unroll
                for (int j = 0; j < W / N; j++) {
                    float part[N];
                    unpack<T>(keep[k * (W / N) + j], part);
#pragma unroll
                    for (int i = 0; i < N; i++) v[j * N + i] = part[i];
                }
                return;
            }
            if (at >= 0 && at + W <= packs * N) load_columns<T, W>(kept + at, aligned, v);
            else load_columns<T, W>(x + head + at, aligned, v);
        };
        auto store = [&](int k, float(&v)[W]) {
#pragma unroll
            for (int i = 0; i < W; i++) v[i] = softmax.of(v[i]);
            store_columns<true>(dx + dx_head + k * W, v);
        };
        int k = threadIdx.x;
#pragma unroll 1
        for (; k + (U - 1) * Threads < units; k += U * Threads) {
            float v[U][W];
#pragma unroll
            for (int u = 0; u < U; u++) load(k + u * Threads, v[u]);
#pragma unroll
            for (int u = 0; u < U; u++) store(k + u * Threads, v[u]);
        }
#pragma unroll 1
        for (; k < units; k += Threads) {
            float v[W];
            load(k, v);
            store(k, v);
        }
    }

    // Of this part; `label` counts from its first column. Where dx is x it is read no more: packs are kept, edges held.
    template <typename G>
    __device__ __forceinline__ void write_gradient(G* dx, float max, float factor, int label, float at_label, float scale) const {
        constexpr int W = N > Pack<G>::N ? N : Pack<G>::N;
        const Softmax<G> softmax(max, factor);
        const int dx_head = unaligned_head(dx, columns), units = (columns - dx_head) / W;
        const int column = edge_column(dx_head, units * W);
        if (column < columns) {
            const bool held = dx_head == head && W == N;
            dx[column] = from_float<G>(softmax.of(held ? edge : to_float(x[column])));
        }
        if (dx_head == head) write_units<true, G, W>(dx, dx_head, units, softmax);
        else write_units<false, G, W>(dx, dx_head, units, softmax);
        if ((unsigned)label >= (unsigned)columns) return;
        // Once more the label's element, when it has been written without its −1.
        __syncthreads();
        if (threadIdx.x == 0) dx[label] = from_float<G>(softmax.of(at_label) - scale);
    }
};

// The cluster's maximum and Σ exp(x − maximum), for each thread: every warp sends its own to all blocks, whose warps join them
// in the order of blocks and warps. Between the barriers all blocks are there; behind the second all have read the row, and none
// touches another's memory, so that a block may end.
template <int C, int Threads> __device__ __forceinline__ RunningSum join_cluster(const RunningSum& mine) {
    constexpr int Warps = Threads / 32, Terms = C * Warps, Rounds = (Terms + 31) / 32;
    __shared__ float2 terms[Terms];
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, rank = blockIdx.x % C;
    RunningSum all;
    all.max = warp_max(mine.max);
    all.sum = warp_sum(mine.sum * exp_term(mine.max - all.reference()));
    cluster_wait();
    if (lane < C) store_to_block(&terms[rank * Warps + warp], lane, make_float2(all.max, all.sum));
    cluster_arrive();
    cluster_wait();
    float2 term[Rounds];
    float max = -INFINITY, sum = 0;
#pragma unroll
    for (int i = 0; i < Rounds; i++) {
        term[i] = lane + 32 * i < Terms ? terms[lane + 32 * i] : make_float2(-INFINITY, 0);
        max = fmaxf(max, term[i].x);
    }
    all.max = warp_max(max);
#pragma unroll
    for (int i = 0; i < Rounds; i++) sum += term[i].y * exp_term(term[i].x - all.reference());
    all.sum = warp_sum(sum);
    return all;
}

// p.kept: packs of a part, eight or a multiple. The grid has C blocks a row.
template <typename T, int C, int Threads = ClusterThreads>
__device__ __forceinline__ void cluster_row(const CrossEntropyParams& p) {
    // This block is there; before it has waited for the others it leaves their memory alone. Here, where no copies are on their
    // way, because to arrive is a fence too.
    cluster_arrive();
    const int rank = blockIdx.x % C;
    const long long row = blockIdx.x / C;
    Part<T, C, Threads> part((const T*)p.x + row * p.x_stride, p.columns, p.kept, rank);
    part.start();
    const int label = p.labels[row];
    const long long at = row * p.dx_stride + part.begin;
    if (label == IgnoredLabel) {
        wait_for_copies();
        cluster_wait();
        if (rank == 0 && threadIdx.x == 0) p.losses[row] = 0;
        if (p.dx) {
            if (p.dx_type == F32) write_zeros((uint32_t*)p.dx + at, part.columns);
            else write_zeros((uint16_t*)p.dx + at, part.columns);
        }
        return;
    }
    const bool legal = (unsigned)label < (unsigned)p.columns;
    const int own_label = legal ? label - part.begin : -1;
    const bool owned = (unsigned)own_label < (unsigned)part.columns;
    const float at_label = owned ? to_float(part.x[own_label]) : NAN;
    const float scale = legal ? (p.grad_scale ? *p.grad_scale : p.scale) : NAN;
    const RunningSum all = join_cluster<C, Threads>(part.sum());
    // The block that has the label knows its logit; of an illegal one there is none.
    if (threadIdx.x == 0 && (legal ? owned : rank == 0))
        p.losses[row] = (float)((double)all.max - (double)at_label + (double)logf(all.sum));
    const float factor = scale / all.sum;
    if (!p.dx) return;
    if (p.dx_type == F32) part.write_gradient((float*)p.dx + at, all.max, factor, own_label, at_label, scale);
    else if (p.dx_type == BF16) part.write_gradient((bf16*)p.dx + at, all.max, factor, own_label, at_label, scale);
    else part.write_gradient((f16*)p.dx + at, all.max, factor, own_label, at_label, scale);
}

#define CLUSTER_TYPED(C, T, name)                                                                         \
    extern "C" __global__ void __cluster_dims__(C, 1, 1) __launch_bounds__(ClusterThreads, ClusterBlocks) \
        crossentropy_cluster##C##_##name(const CrossEntropyParams p) {                                    \
        cluster_row<T, C>(p);                                                                             \
    }

#define CLUSTER_KERNELS(C)                                     \
    ENGINE_PARAMS(crossentropy_cluster##C, CrossEntropyParams) \
    CLUSTER_TYPED(C, float, f32)                               \
    CLUSTER_TYPED(C, bf16, bf16)                               \
    CLUSTER_TYPED(C, f16, f16)

CLUSTER_KERNELS(2)
CLUSTER_KERNELS(4)
CLUSTER_KERNELS(8)
