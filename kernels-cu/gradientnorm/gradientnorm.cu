// gradientnorm_compute — norm = √Σ x² over all elements of all tensors
// Shapes: any number of tensors without gaps, in a table with its chunks; norm [1] f64.  Any alignment (slower when odd)
// Dtypes: f32 | bf16 | f16, mixed; accumulates in f64.  Arch: sm_80+
// Bytes: Σ elements·e.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: a block for each chunk leaves a partial sum; the block that comes last adds the partial sums and takes the root
// Numerics: fixed order, whichever block comes last: deterministic.  NaN and infinities reach the result
#include "../common/multitensor.cuh"
#include "../common/reduce.cuh"

struct GradientNormParams {
    const TensorEntry* tensors;
    const ChunkEntry* chunks;
    double* partials;   // one for each chunk
    unsigned* arrived;  // 0, and 0 again afterwards
    double* norm;
    int chunk_count;  // 0 with one block: the norm of nothing
};

constexpr int Threads = 256;

template <typename T> __device__ __forceinline__ double sum_squares(const TensorEntry& t, long long begin, int count) {
    constexpr int N = Pack<T>::N, Unroll = ChunkElements / Threads / N;
    const T* x = (const T*)t.data + begin;
    const int packs = t.vectors ? count / N : 0;
    double sum = 0;
    float v[Unroll][N];
#pragma unroll
    for (int u = 0; u < Unroll; u++) {
        if (u * Threads + (int)threadIdx.x < packs) {
            Pack<T>::load(x + (u * Threads + threadIdx.x) * N, v[u]);
        } else {
#pragma unroll
            for (int i = 0; i < N; i++) v[u][i] = 0;
        }
    }
#pragma unroll
    for (int u = 0; u < Unroll; u++) {
#pragma unroll
        for (int i = 0; i < N; i++) sum += (double)v[u][i] * (double)v[u][i];
    }
    for (int i = packs * N + threadIdx.x; i < count; i += Threads) {
        double single = to_float(x[i]);
        sum += single * single;
    }
    return sum;
}

ENGINE_PARAMS(gradientnorm_compute, GradientNormParams)
extern "C" __global__ void __launch_bounds__(Threads) gradientnorm_compute(const GradientNormParams p) {
    __shared__ double shared[33];
    __shared__ bool last;
    if (p.chunk_count == 0) {
        if (threadIdx.x == 0) *p.norm = 0;
        return;
    }
    const ChunkEntry chunk = p.chunks[blockIdx.x];
    const TensorEntry tensor = p.tensors[chunk.tensor];
    const long long begin = (long long)chunk.index * ChunkElements;
    const int count = (int)min((long long)ChunkElements, tensor.elements - begin);
    double sum = tensor.type == F32 ? sum_squares<float>(tensor, begin, count)
        : tensor.type == BF16       ? sum_squares<bf16>(tensor, begin, count)
                                    : sum_squares<f16>(tensor, begin, count);
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) {
        p.partials[blockIdx.x] = sum;
        __threadfence();
        // Wraps to 0 with the last block.
        last = atomicInc(p.arrived, p.chunk_count - 1) == p.chunk_count - 1u;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    sum = 0;
#pragma unroll 4
    for (int i = threadIdx.x; i < p.chunk_count; i += Threads) sum += __ldcg(p.partials + i);
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) *p.norm = sqrt(sum);
}
