// reduction_sum — y[0] = scale·Σ x
// Shapes: x [n] without gaps.  Dtypes: f32, accumulates in f64.  Arch: sm_80+
// Bytes: 4·n.  Bound: latency; n is the number of labels of a batch
// Algorithm: one block; a thread adds every 1024th element, then the block's tree
// Numerics: fixed order, deterministic.  Aliasing: y may be x[0]
#include "../common/reduce.cuh"
#include "../common/types.cuh"

struct SumParams {
    const float* x;
    float* y;
    long long count;
    float scale;
};

ENGINE_PARAMS(reduction_sum, SumParams)
extern "C" __global__ void __launch_bounds__(1024) reduction_sum(const SumParams p) {
    __shared__ double shared[33];
    double sum = 0;
    for (long long i = threadIdx.x; i < p.count; i += blockDim.x) sum += p.x[i];
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) *p.y = (float)(p.scale * sum);
}
