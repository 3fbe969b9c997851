// cast_<to> — y = x in another float dtype, rounded to nearest even in one step; overflow becomes infinity, NaN stays NaN
// Shapes: any, without gaps.  Dtypes: x f32 | bf16 | f16 by a run-time code, y by the entry point.  Arch: sm_80+
// Bytes: n·(ex + ey).  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: grid-stride loop over packs of y.  Aliasing: none
#include "../common/elementwise.cuh"

struct CastParams {
    const void* x;
    void* y;
    long long count;
    int x_type;
    int vectors;
};

template <typename T> __device__ void cast(const CastParams& p) {
    constexpr int N = Pack<T>::N;
    T* y = (T*)p.y;
    for_elements<N>(p.count, p.vectors, [&](long long i) { y[i] = from_float<T>(load_any(p.x, i, p.x_type)); },
                    [&](long long i) {
                        float u[N];
                        load_any_pack(p.x, i, p.x_type, u);
                        Pack<T>::store(y + i, u);
                    });
}

ENGINE_KERNEL(cast, CastParams, kElementThreads, cast)
