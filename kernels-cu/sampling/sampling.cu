// sampling_select — the next token of each row of logits: greedy, or a draw after repetition penalty, temperature, top-k and
//   top-p (Engine.Kernels.Sampling); −1 where a row holds NaN or no value above −∞
// Shapes: logits [B,V]; ids [B]; seen [B,S] with a count for each row; draws [B] in [0,1); scratch keys, list [B,V] u32
// Dtypes: logits f32 | bf16 | f16; ids, seen i32; draws f64; scores and weights in f32, sums of weights exact.  Arch: sm_80+
// Bytes: B·V·e.  Bound: latency of one multiprocessor a row; greedy one pass over the row, a draw three or four in L2
// Algorithm: one block a row. Scores become unsigned keys of the same order. Top-k: the k-th best of the threads' own maxima
//   bounds the k-th best score from below, so that few keys remain for a search bit by bit; top-p: the same search over the
//   mass below a key. The draw narrows the ids to a 32nd at a time by prefix sums over the warps
// Numerics: weights exp(score − max) are summed as integers (2^shift units): exact, so that no order matters; deterministic
// Aliasing: none
#include "../common/reduce.cuh"
#include "../common/types.cuh"

using u64 = unsigned long long;

struct SamplingParams {
    const void* logits;
    int* ids;
    const int* seen;         // null: no penalty
    const int* seen_counts;
    const double* draws;     // null: greedy
    uint32_t* keys;          // null: greedy without penalty
    uint32_t* list;          // null: no filters
    int columns;
    int seen_stride;
    float temperature;
    float penalty;
    int top_k;        // 0: all
    float removable;  // 1 − p; negative: all are kept
    float unit;       // 2^shift, V·2^shift < 2^63
    int vectors;      // nonzero: 16-byte accesses to logits and keys
};

constexpr int SamplingThreads = 1024;
constexpr uint32_t KeyOfMinusInfinity = 0x007FFFFFu;

// The bits of a float as an integer of the same order; −0 counts as +0.
__device__ __forceinline__ uint32_t key_of(float x) {
    uint32_t bits = __float_as_uint(__fadd_rn(x, 0.0f));
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float score_of(uint32_t key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key);
}

// Larger for a larger key, and among equals for a lower id.
__device__ __forceinline__ u64 candidate(uint32_t key, int id) { return (u64)key << 32 | (0xFFFFFFFFu - (uint32_t)id); }

__device__ __forceinline__ u64 block_best(u64 x, u64* shared) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) x = max(x, __shfl_xor_sync(0xffffffffu, x, d));
    __syncthreads();
    if (lane == 0) shared[warp] = x;
    __syncthreads();
    x = shared[lane];
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) x = max(x, __shfl_xor_sync(0xffffffffu, x, d));
    return x;
}

// The sum over the lanes up to this one.
template <typename A> __device__ __forceinline__ A warp_prefix(A x) {
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        A y = __shfl_up_sync(0xffffffffu, x, d);
        if ((int)(threadIdx.x & 31) >= d) x += y;
    }
    return x;
}

struct Weights {
    float maximum;
    float unit;
    __device__ __forceinline__ u64 operator()(uint32_t key) const {
        return __float2ull_rz(expf(score_of(key) - maximum) * unit);
    }
};

// Copies the keys that `take` accepts to list, in any order, and returns their number.
template <typename F> __device__ __forceinline__ int gather(const uint32_t* keys, int count, uint32_t* list, F take) {
    __shared__ int gathered;
    int lane = threadIdx.x & 31;
    if (threadIdx.x == 0) gathered = 0;
    __syncthreads();
    for (int base = 0; base < count; base += SamplingThreads) {
        int i = base + (int)threadIdx.x;
        uint32_t key = i < count ? keys[i] : 0;
        bool taken = i < count && take(key);
        unsigned mask = __ballot_sync(0xffffffffu, taken);
        int at = 0;
        if (lane == 0 && mask) at = atomicAdd(&gathered, __popc(mask));
        at = __shfl_sync(0xffffffffu, at, 0);
        if (taken) list[at + __popc(mask & ((1u << lane) - 1))] = key;
    }
    __syncthreads();
    return gathered;
}

// Σ value(key) over the items; every thread gets it.
template <typename A, typename F> __device__ __forceinline__ A sum_of(const uint32_t* items, int count, A* shared, F value) {
    A sum = 0;
    for (int i = threadIdx.x; i < count; i += SamplingThreads) sum += value(items[i]);
    return block_sum(sum, shared);
}

// What is kept: keys above `key`, and its equals except the first `skip` by id.
struct Kept {
    uint32_t key;
    int skip;
};

// The key of the k-th best item; items are at least k.
__device__ __forceinline__ uint32_t kth_best(const uint32_t* items, int count, int k, int* shared) {
    uint32_t limit = 0;
    if (count <= SamplingThreads) {
        uint32_t own = (int)threadIdx.x < count ? items[threadIdx.x] : 0;
        for (uint32_t bit = 0x80000000u; bit; bit >>= 1)
            if (__syncthreads_count(own >= (limit | bit)) >= k) limit |= bit;
        return limit;
    }
    for (uint32_t bit = 0x80000000u; bit; bit >>= 1) {
        uint32_t trial = limit | bit;
        if (sum_of<int>(items, count, shared, [=](uint32_t key) { return key >= trial ? 1 : 0; }) >= k) limit = trial;
    }
    return limit;
}

// In ascending order (equals by id), tokens go while the share so far is at most `removable`; the best, `last`, stays.
__device__ __forceinline__ Kept nucleus(
    const uint32_t* items, int count, u64 below, u64 total, uint32_t low, uint32_t last, float removable, Weights weight, u64* shared) {
    auto may_go = [=](u64 mass) { return (float)((double)mass / (double)total) <= removable; };
    auto mass_below = [&](uint32_t key) {
        return below + sum_of<u64>(items, count, shared, [=](uint32_t k) { return k >= low && k < key ? weight(k) : 0ull; });
    };
    uint32_t limit = 0;
    for (uint32_t bit = 0x80000000u; bit; bit >>= 1)
        if (may_go(mass_below(limit | bit))) limit |= bit;
    limit = min(limit, last);
    u64 mass = mass_below(limit), each = weight(limit);
    int equals = (int)sum_of<u64>(items, count, shared, [=](uint32_t k) { return k == limit ? 1ull : 0ull; });
    int least = 0, most = limit == last ? equals - 1 : equals;
    while (least < most) {
        int middle = least + (most - least + 1) / 2;
        if (may_go(mass + middle * each)) least = middle;
        else most = middle - 1;
    }
    return {limit, least};
}

// The first id, among the kept, at which the mass exceeds u of the whole.
__device__ __forceinline__ int draw(const uint32_t* keys, int columns, Kept kept, double u, Weights weight) {
    __shared__ u64 masses[32];
    __shared__ int equals[32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int begin = 0, end = columns, equals_before = 0;
    u64 each = weight(kept.key), target = 0;
    bool first = true;
    do {
        int part = (end - begin + 31) / 32;
        int from = begin + warp * part, to = min(from + part, end);
        u64 mass = 0;
        int same = 0;
        for (int i = from + lane; i < to; i += 32) {
            uint32_t key = keys[i];
            if (key > kept.key) mass += weight(key);
            else if (key == kept.key) same++;
        }
        mass = warp_sum(mass);
        same = warp_sum(same);
        if (lane == 0) {
            masses[warp] = mass;
            equals[warp] = same;
        }
        __syncthreads();
        // Each warp does the same with one part a lane.
        same = equals[lane];
        int before = equals_before + warp_prefix(same) - same;
        mass = masses[lane] + (u64)max(0, before + same - max(kept.skip, before)) * each;
        u64 sum = warp_prefix(mass);
        if (first) {
            u64 total = __shfl_sync(0xffffffffu, sum, 31);
            target = min((u64)(u * (double)total), total - 1);
            first = false;
        }
        unsigned over = __ballot_sync(0xffffffffu, sum > target);
        int chosen = over ? __ffs(over) - 1 : 31;
        target -= __shfl_sync(0xffffffffu, sum - mass, chosen);
        equals_before = __shfl_sync(0xffffffffu, before, chosen);
        begin += chosen * part;
        end = min(begin + part, end);
        __syncthreads();
    } while (end - begin > 32);
    int i = begin + lane;
    uint32_t key = i < end ? keys[i] : 0;
    bool same = i < end && key == kept.key;
    int rank = equals_before + __popc(__ballot_sync(0xffffffffu, same) & ((1u << lane) - 1));
    u64 mass = i < end && (key > kept.key || (same && rank >= kept.skip)) ? weight(key) : 0;
    unsigned over = __ballot_sync(0xffffffffu, warp_prefix(mass) > target);
    return begin + (over ? __ffs(over) - 1 : 0);
}

// Reads the logits, writes their keys where asked for; false in `sound` where one is NaN. Returns the thread's best.
template <typename T> __device__ __forceinline__ u64 read_logits(
    const T* __restrict__ logits, uint32_t* __restrict__ keys, int columns, float temperature, bool vectors, bool& sound) {
    constexpr int N = Pack<T>::N;
    u64 best = 0;
    if (vectors) {
#pragma unroll 4
        for (int i = threadIdx.x * N; i < columns; i += SamplingThreads * N) {
            float x[N];
            uint32_t key[N];
            Pack<T>::load(logits + i, x);
#pragma unroll
            for (int n = 0; n < N; n++) {
                sound = sound && x[n] == x[n];
                key[n] = key_of(temperature == 1 ? x[n] : x[n] / temperature);
                best = max(best, candidate(key[n], i + n));
            }
            if (keys) {
#pragma unroll
                for (int n = 0; n < N; n += 4)
                    *reinterpret_cast<uint4*>(keys + i + n) = make_uint4(key[n], key[n + 1], key[n + 2], key[n + 3]);
            }
        }
        return best;
    }
    for (int i = threadIdx.x; i < columns; i += SamplingThreads) {
        float x = to_float(logits[i]);
        sound = sound && x == x;
        uint32_t key = key_of(temperature == 1 ? x : x / temperature);
        best = max(best, candidate(key, i));
        if (keys) keys[i] = key;
    }
    return best;
}

template <typename T> __device__ void sampling_select(const SamplingParams& p) {
    __shared__ u64 shared[33];
    long long row = blockIdx.x;
    const T* logits = (const T*)p.logits + row * p.columns;
    uint32_t* keys = p.keys ? p.keys + row * p.columns : nullptr;
    uint32_t* list = p.list ? p.list + row * p.columns : nullptr;
    float temperature = p.draws ? p.temperature : 1.0f;
    bool sound = true;
    u64 own = read_logits<T>(logits, keys, p.columns, temperature, p.vectors, sound);
    u64 best = block_best(own, shared);
    if (__syncthreads_or(!sound)) best = 0;
    if (p.seen && best >> 32 > KeyOfMinusInfinity) {
        // From the logits, so that a token seen twice is treated once.
        int seen = min(max(p.seen_counts[row], 0), p.seen_stride);
        for (int i = threadIdx.x; i < seen; i += SamplingThreads) {
            int id = p.seen[row * p.seen_stride + i];
            if ((unsigned)id >= (unsigned)p.columns) continue;
            float x = to_float(logits[id]);
            x = x < 0 ? x * p.penalty : x / p.penalty;
            keys[id] = key_of(temperature == 1 ? x : x / temperature);
        }
        __syncthreads();
        own = 0;
        for (int i = threadIdx.x; i < p.columns; i += SamplingThreads) own = max(own, candidate(keys[i], i));
        best = block_best(own, shared);
    }
    uint32_t last = (uint32_t)(best >> 32);
    if (last <= KeyOfMinusInfinity || !p.draws || isinf(score_of(last))) {
        if (threadIdx.x == 0) p.ids[row] = last <= KeyOfMinusInfinity ? -1 : (int)(0xFFFFFFFFu - (uint32_t)best);
        return;
    }
    Weights weight = {score_of(last), p.unit};
    Kept kept = {0, 0};
    const uint32_t* items = keys;
    int count = p.columns;
    if (p.top_k > 0 && p.top_k < p.columns) {
        uint32_t low = 0, mine = (uint32_t)(own >> 32);
        if (p.top_k <= SamplingThreads)
            for (uint32_t bit = 0x80000000u; bit; bit >>= 1)
                if (__syncthreads_count(mine >= (low | bit)) >= p.top_k) low |= bit;
        count = gather(keys, p.columns, list, [=](uint32_t key) { return key >= low; });
        items = list;
        kept.key = kth_best(items, count, p.top_k, (int*)shared);
    }
    if (p.removable >= 0) {
        uint32_t low = kept.key;
        u64 total = sum_of<u64>(items, count, shared, [=](uint32_t key) { return key >= low ? weight(key) : 0ull; }), below = 0;
        if (items == keys) {
            // Tokens this unlikely sum to less than half of 1 − p: all of them go, and only the rest needs searching.
            u64 least = (u64)(p.removable / 2.0 / p.columns * (double)total);
            below = sum_of<u64>(items, count, shared, [=](uint32_t key) { return weight(key) < least ? weight(key) : 0ull; });
            count = gather(keys, p.columns, list, [=](uint32_t key) { return weight(key) >= least; });
            items = list;
        }
        kept = nucleus(items, count, below, total, low, last, p.removable, weight, shared);
    }
    int id = draw(keys, p.columns, kept, p.draws[row], weight);
    if (threadIdx.x == 0) p.ids[row] = id;
}

ENGINE_KERNEL(sampling_select, SamplingParams, SamplingThreads, sampling_select)
