// copy_<bytes> — y = x between tensors of one shape whose strides are free, in units of 1, 2, 4, 8 or 16 bytes
// Shapes: up to 6 dimensions; the launcher joins neighbours and chooses the widest unit that divides runs and strides
// Dtypes: any.  Arch: sm_80+
// Bytes: 2·n·e.  Bound: memory, target >= 85% of copy bandwidth where the last dimension has no gaps
// Algorithm: grid-stride loop over units in row-major order of the shape.  Aliasing: none
#include "../common/types.cuh"

struct CopyParams {
    const void* x;
    void* y;
    long long count;  // units
    int rank;
    int pad;
    long long extents[6];  // in units, outermost first
    long long x_strides[6];
    long long y_strides[6];
};

template <typename U> __device__ __forceinline__ void copy(const CopyParams& p) {
    for (long long k = (long long)blockIdx.x * blockDim.x + threadIdx.x; k < p.count; k += (long long)gridDim.x * blockDim.x) {
        long long rest = k, from = 0, to = 0;
#pragma unroll
        for (int d = 5; d >= 0; d--) {
            if (d >= p.rank) continue;
            long long index;
            if (d == 0) {
                index = rest;
            } else if (rest <= 0xffffffffll && p.extents[d] <= 0xffffffffll) {
                // 32-bit division is several times cheaper.
                unsigned quotient = (unsigned)rest / (unsigned)p.extents[d];
                index = rest - (long long)quotient * p.extents[d];
                rest = quotient;
            } else {
                long long quotient = rest / p.extents[d];
                index = rest - quotient * p.extents[d];
                rest = quotient;
            }
            from += index * p.x_strides[d];
            to += index * p.y_strides[d];
        }
        ((U*)p.y)[to] = ((const U*)p.x)[from];
    }
}

#define COPY_KERNEL(bytes, Unit)         \
    ENGINE_PARAMS(copy_##bytes, CopyParams) \
    extern "C" __global__ void __launch_bounds__(256) copy_##bytes(const CopyParams p) { copy<Unit>(p); }

COPY_KERNEL(1, uint8_t)
COPY_KERNEL(2, uint16_t)
COPY_KERNEL(4, uint32_t)
COPY_KERNEL(8, uint2)
COPY_KERNEL(16, uint4)
