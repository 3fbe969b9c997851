// What the kernels of cross-entropy share: parameters, sums of exponentials, a gradient's elements and how they are stored.
#pragma once
#include "../common/mma.cuh"
#include "../common/reduce.cuh"

constexpr int IgnoredLabel = -100;
constexpr int kGroup = 4;  // packs that a thread adds at once, a block's size apart

struct CrossEntropyParams {
    const void* x;
    const int* labels;
    float* losses;
    void* dx;                 // null: losses alone
    const float* grad_scale;  // null: take scale
    long long x_stride;
    long long dx_stride;
    int columns;
    int dx_type;
    float scale;
    // Packs of x that shared memory has room for: all, or a multiple of a block's groups; no more than its stages. Of a cluster:
    // of the part that each block has.
    int kept;
};

__device__ __forceinline__ void copy_16_by(uint64_t policy, uint32_t to, const void* from) {
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "l"(policy));
}

// Elements before the first one at a multiple of 16 bytes.
template <typename T> __device__ __forceinline__ int unaligned_head(const T* p, int columns) {
    int head = (int)((16 - (reinterpret_cast<uintptr_t>(p) & 15)) & 15) / (int)sizeof(T);
    return min(head, columns);
}

// A pack's elements. A bf16 is the upper half of a float: one instruction each.
template <typename T> __device__ __forceinline__ void unpack(const uint4& raw, float (&v)[Pack<T>::N]) {
    Pack<T>::load((const T*)&raw, v);
}
template <> __device__ __forceinline__ void unpack<bf16>(const uint4& raw, float (&v)[8]) {
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[2 * i] = __uint_as_float(words[i] << 16);
        v[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000u);
    }
}

// The greatest of two packs' elements at each place, two at once; NaN is left out, as fmaxf does.
template <typename Pair> __device__ __forceinline__ uint4 greater_pairs(const uint4& a, const uint4& b) {
    uint4 most;
#pragma unroll
    for (int i = 0; i < 4; i++) ((Pair*)&most)[i] = __hmax2(((const Pair*)&a)[i], ((const Pair*)&b)[i]);
    return most;
}
__device__ __forceinline__ uint4 greater(const uint4& a, const uint4& b, bf16) { return greater_pairs<__nv_bfloat162>(a, b); }
__device__ __forceinline__ uint4 greater(const uint4& a, const uint4& b, f16) { return greater_pairs<__half2>(a, b); }
__device__ __forceinline__ uint4 greater(const uint4& a, const uint4& b, float) {
    auto most = [](uint32_t x, uint32_t y) { return __float_as_uint(fmaxf(__uint_as_float(x), __uint_as_float(y))); };
    return make_uint4(most(a.x, b.x), most(a.y, b.y), most(a.z, b.z), most(a.w, b.w));
}

// eˣ for sums: what is too small for a normal number is 0.
__device__ __forceinline__ float exp_term(float x) { return exp2_fast(x * Log2E); }

// A running maximum and Σ exp(x − maximum).
struct RunningSum {
    float max = -INFINITY;
    float sum = 0;

    // −∞ − (−∞) would be NaN; and a maximum drops NaN, which must still reach the sum.
    __device__ __forceinline__ float reference() const { return max == -INFINITY ? 0.0f : max; }

    // Raises the maximum to `most`.
    __device__ __forceinline__ void raise(float most) {
        if (most > max) {
            sum *= exp_term(max - most);
            max = most;
        }
    }

    __device__ __forceinline__ void add(float x) {
        raise(x);
        sum += exp_term(x - reference());
    }
};

// With as few instructions as there are: the maximum is found before packs are unpacked, and a sum begins with its first term, not
// with 0.
template <typename T, int U> __device__ __forceinline__ void add_packs(RunningSum& running, const uint4 (&raw)[U]) {
    constexpr int N = Pack<T>::N;
    uint4 greatest = raw[0];
#pragma unroll
    for (int u = 1; u < U; u++) greatest = greater(greatest, raw[u], T());
    float most[N];
    unpack<T>(greatest, most);
#pragma unroll
    for (int i = 1; i < N; i++) most[0] = fmaxf(most[0], most[i]);
    running.raise(most[0]);
    const float r = running.reference();
    float sum = 0;
#pragma unroll
    for (int u = 0; u < U; u++) {
        float v[N];
        unpack<T>(raw[u], v);
        float part = exp_term(v[0] - r);
#pragma unroll
        for (int i = 1; i < N; i++) part += exp_term(v[i] - r);
        sum = u == 0 ? part : sum + part;
    }
    running.sum += sum;
}

template <typename T, int W> __device__ __forceinline__ void load_columns(const T* x, bool aligned, float (&v)[W]) {
    constexpr int N = Pack<T>::N;
    if (!aligned) {
#pragma unroll
        for (int i = 0; i < W; i++) v[i] = to_float(x[i]);
        return;
    }
#pragma unroll
    for (int j = 0; j < W; j += N) {
        float part[N];
        Pack<T>::load(x + j, part);
#pragma unroll
        for (int i = 0; i < N; i++) v[j + i] = part[i];
    }
}

// 16 bytes, or 8, at a time; `Once`: they are not read again soon.
template <bool Once, typename G, int W> __device__ __forceinline__ void store_columns(G* dx, const float (&v)[W]) {
    auto store = [](auto* to, auto words) {
        if (Once) __stcs(to, words);
        else *to = words;
    };
    if constexpr (sizeof(G) == 4) {
#pragma unroll
        for (int j = 0; j < W; j += 4) store((float4*)(dx + j), make_float4(v[j], v[j + 1], v[j + 2], v[j + 3]));
    } else if constexpr (W == 8) {
        store((uint4*)dx, make_uint4(pack2<G>(v[0], v[1]), pack2<G>(v[2], v[3]), pack2<G>(v[4], v[5]), pack2<G>(v[6], v[7])));
    } else {
        store((uint2*)dx, make_uint2(pack2<G>(v[0], v[1]), pack2<G>(v[2], v[3])));
    }
}

// exp(x − max)·factor. Subnormal results need an exponential that does not flush them; for 16-bit results one that is 2²⁴ times
// too large will do, whose argument is rounded to 2⁻²⁰.
template <typename G> struct Softmax {
    float max, factor;

    __device__ __forceinline__ Softmax(float max, float factor) : max(max), factor(sizeof(G) == 4 ? factor : factor * 0x1p-24f) {}

    __device__ __forceinline__ float of(float x) const {
        const float e = sizeof(G) == 4 ? exp2f((x - max) * Log2E) : exp2_fast(fmaf(x - max, Log2E, 24.0f));
        return e * factor;
    }
};

// Zero is all bits clear in every dtype: B is an integer of its size.
template <typename B> __device__ __forceinline__ void write_zeros(B* dx, int columns) {
    constexpr int N = 16 / sizeof(B);
    const int head = unaligned_head(dx, columns), packs = (columns - head) / N;
    if ((int)threadIdx.x < head) dx[threadIdx.x] = 0;
    uint4* body = reinterpret_cast<uint4*>(dx + head);
    for (int k = threadIdx.x; k < packs; k += blockDim.x) body[k] = make_uint4(0, 0, 0, 0);
    const int tail = head + packs * N + threadIdx.x;
    if (tail < columns) dx[tail] = 0;
}
