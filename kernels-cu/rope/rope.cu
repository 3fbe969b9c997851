// rope — y[i] = x[i]·cos − x[i + D/2]·sin, y[i + D/2] = x[i + D/2]·cos + x[i]·sin, with the sine's sign turned for the inverse
// Shapes: x, y [B,T,H,D], last dimension without gaps, other strides free; cos, sin [P,D/2] f32; positions I32 [B,T]
// Dtypes: f32 | bf16 | f16, computed in f32.  Arch: sm_80+
// Bytes: 2·B·T·H·D·e and the tables' rows once for each head (from L2).  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: a thread rotates one pack of each half; neighbours along D, then heads, then tokens
// Numerics: one rounding of each result.  Aliasing: y may be x
#include "../common/types.cuh"

struct RopeParams {
    const void* x;
    void* y;
    const float* cos;
    const float* sin;
    const int* positions;
    long long x_batch, x_token, x_head;
    long long y_batch, y_token, y_head;
    long long tokens;  // B·T
    int length;        // T
    int heads;
    int half;  // D/2
    float sign;
    int vectors;
};

template <typename T> __device__ void rope(const RopeParams& p) {
    constexpr int N = Pack<T>::N;
    int width = p.vectors ? N : 1, units = p.half / width;
    long long count = p.tokens * p.heads * units;
    for (long long k = (long long)blockIdx.x * blockDim.x + threadIdx.x; k < count; k += (long long)gridDim.x * blockDim.x) {
        int i = (int)(k % units) * width;
        long long rest = k / units;
        int head = (int)(rest % p.heads);
        long long token = rest / p.heads;
        long long b = token / p.length, t = token % p.length;
        const T* x = (const T*)p.x + b * p.x_batch + t * p.x_token + head * p.x_head;
        T* y = (T*)p.y + b * p.y_batch + t * p.y_token + head * p.y_head;
        long long row = (long long)p.positions[token] * p.half + i;
        if (p.vectors) {
            float lo[N], hi[N], c[N], s[N];
            Pack<T>::load(x + i, lo);
            Pack<T>::load(x + i + p.half, hi);
            load_any_pack(p.cos, row, F32, c);
            load_any_pack(p.sin, row, F32, s);
#pragma unroll
            for (int j = 0; j < N; j++) {
                float a = lo[j], d = hi[j], sine = p.sign * s[j];
                lo[j] = a * c[j] - d * sine;
                hi[j] = d * c[j] + a * sine;
            }
            Pack<T>::store(y + i, lo);
            Pack<T>::store(y + i + p.half, hi);
        } else {
            float a = to_float(x[i]), d = to_float(x[i + p.half]), c = p.cos[row], sine = p.sign * p.sin[row];
            y[i] = from_float<T>(a * c - d * sine);
            y[i + p.half] = from_float<T>(d * c + a * sine);
        }
    }
}

ENGINE_KERNEL(rope, RopeParams, 256, rope)
