// dropout — y[i] = x[i] / (1 − p) where word i mod 4 of Philox block i div 4 reaches the threshold, else 0
// Shapes: any, without gaps.  Dtypes: f32 | bf16 | f16, computed in f32.  Arch: sm_80+
// Bytes: 2·n·e.  Bound: memory, or the generator's 10 rounds for each four elements
// Algorithm: grid-stride loop; a thread draws the blocks of its pack.  Aliasing: y may be x
// Numerics: the mask is the CPU's to the bit; the stream's upper part may come from device memory, for recorded steps
#include "../common/elementwise.cuh"
#include "../common/philox.cuh"

struct DropoutParams {
    const void* x;
    void* y;
    const long long* step;  // or null; shifted by 16 bits it adds to stream
    unsigned long long seed;
    unsigned long long stream;
    long long count;
    uint32_t threshold;
    float scale;
    int vectors;
};

template <typename T> __device__ void dropout(const DropoutParams& p) {
    constexpr int N = Pack<T>::N;
    const T* x = (const T*)p.x;
    T* y = (T*)p.y;
    unsigned long long stream = p.stream + (p.step ? (unsigned long long)*p.step << 16 : 0ull);
    for_elements<N>(p.count, p.vectors,
                    [&](long long i) {
                        uint4 w = philox(p.seed, stream, (unsigned long long)i / 4);
                        uint32_t word = (i & 3) == 0 ? w.x : (i & 3) == 1 ? w.y : (i & 3) == 2 ? w.z : w.w;
                        y[i] = from_float<T>(word >= p.threshold ? to_float(x[i]) * p.scale : 0.0f);
                    },
                    [&](long long i) {
                        float u[N];
                        Pack<T>::load(x + i, u);
#pragma unroll
                        for (int k = 0; k < N; k += 4) {
                            uint4 w = philox(p.seed, stream, (unsigned long long)(i + k) / 4);
                            u[k] = w.x >= p.threshold ? u[k] * p.scale : 0.0f;
                            u[k + 1] = w.y >= p.threshold ? u[k + 1] * p.scale : 0.0f;
                            u[k + 2] = w.z >= p.threshold ? u[k + 2] * p.scale : 0.0f;
                            u[k + 3] = w.w >= p.threshold ? u[k + 3] * p.scale : 0.0f;
                        }
                        Pack<T>::store(y + i, u);
                    });
}

ENGINE_KERNEL(dropout, DropoutParams, kElementThreads, dropout)
