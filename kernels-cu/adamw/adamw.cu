// adamw_step — one AdamW step (Loshchilov and Hutter, 2019, algorithm 2) over all slots; formula at Engine.Kernels.AdamW.
//   The gradient's factor is gradient_scale·min(1, clip ∕ (norm + 10⁻⁶)); with a norm or loss that is not finite nothing is
//   updated.  Afterwards gradients are set to zero where asked for, also then
// Shapes: slots of parameter, gradient, first and second moment, optional master, without gaps, in a table with its chunks
// Dtypes: parameter and gradient each f32 | bf16 | f16; moments and master f32; computes in f32.  Arch: sm_80+
// Bytes: an element 16 + e_g + (8 + e_p with a master, else 2·e_p), e_g more for the zeros.  Bound: memory, target >= 85% of copy
//   bandwidth
// Algorithm: a block for each chunk; packs of 4 elements, single ones at the end or when a pointer is odd
// Numerics: elementwise; additions and multiplications are not fused, so that the bits are those of the CPU
#include "../common/multitensor.cuh"

struct AdamWEntry {
    void* parameter;
    float* first_moment;
    float* second_moment;
    float* master;  // or null
    int parameter_type;
    int vectors;  // nonzero: these pointers are multiples of 16 bytes
};

// The step's numbers, in device memory so that a recorded step can be replayed with others.
struct AdamWNumbers {
    double gradient_scale;
    double clip;  // infinity: none
    float decay;
    float beta1;
    float one_minus_beta1;
    float beta2;
    float one_minus_beta2;
    float minus_step_size;
    float root_correction2;
    float epsilon;
    int near_old;
};

struct AdamWParams {
    const TensorEntry* gradients;
    const AdamWEntry* slots;
    const ChunkEntry* chunks;
    const AdamWNumbers* numbers;
    const double* norm;  // null: neither clip nor test
    const void* loss;    // null: no test
    int loss_type;
    int clear;  // nonzero: gradients become zero
};

static_assert(sizeof(AdamWEntry) == 40 && sizeof(AdamWNumbers) == 56, "as in AdamWCuda");

constexpr int Threads = 256, W = 4;

__device__ __forceinline__ void store_any4(void* p, long long i, int code, const float (&x)[W]) {
    if (code == F32) {
        Pack<float>::store((float*)p + i, x);
        return;
    }
    uint16_t bits[W];
#pragma unroll
    for (int k = 0; k < W; k++)
        bits[k] = code == BF16 ? __bfloat16_as_ushort(__float2bfloat16_rn(x[k])) : __half_as_ushort(__float2half_rn(x[k]));
    *reinterpret_cast<uint2*>((uint16_t*)p + i) =
        make_uint2(bits[0] | (uint32_t)bits[1] << 16, bits[2] | (uint32_t)bits[3] << 16);
}

__device__ __forceinline__ void update(const AdamWNumbers& n, float scale, float g, float& m, float& v, float& p) {
    g = __fmul_rn(g, scale);
    const float step = __fsub_rn(g, m);
    m = n.near_old ? __fadd_rn(m, __fmul_rn(step, n.one_minus_beta1)) : __fsub_rn(g, __fmul_rn(step, n.beta1));
    v = __fadd_rn(__fmul_rn(v, n.beta2), __fmul_rn(__fmul_rn(g, n.one_minus_beta2), g));
    const float denominator = __fadd_rn(__fdiv_rn(__fsqrt_rn(v), n.root_correction2), n.epsilon);
    p = __fadd_rn(__fmul_rn(p, n.decay), __fdiv_rn(__fmul_rn(m, n.minus_step_size), denominator));
}

ENGINE_PARAMS(adamw_step, AdamWParams)
extern "C" __global__ void __launch_bounds__(Threads) adamw_step(const AdamWParams p) {
    __shared__ float shared_scale;
    __shared__ bool shared_skip;
    const ChunkEntry chunk = p.chunks[blockIdx.x];
    const TensorEntry gradient = p.gradients[chunk.tensor];
    const AdamWEntry slot = p.slots[chunk.tensor];
    const AdamWNumbers n = *p.numbers;
    if (threadIdx.x == 0) {
        const double norm = p.norm ? *p.norm : 0;
        const double loss = !p.loss ? 0 : p.loss_type == F64 ? *(const double*)p.loss : (double)*(const float*)p.loss;
        const double factor = p.norm ? fmin(1.0, n.clip / (norm + 1e-6)) : 1;
        shared_scale = (float)(n.gradient_scale * factor);
        shared_skip = !(isfinite(norm) && isfinite(loss));
    }
    __syncthreads();
    const float scale = shared_scale;
    const bool skip = shared_skip;
    const long long begin = (long long)chunk.index * ChunkElements;
    const int count = (int)min((long long)ChunkElements, gradient.elements - begin);
    const int packed = gradient.vectors && slot.vectors ? count / W * W : 0;
    void* source = slot.master ? slot.master : slot.parameter;
    const int source_type = slot.master ? (int)F32 : slot.parameter_type;
    for (int k = threadIdx.x * W; k < packed; k += Threads * W) {
        const long long i = begin + k;
        if (!skip) {
            float m[W], v[W], w[W], g[W];
            Pack<float>::load(slot.first_moment + i, m);
            Pack<float>::load(slot.second_moment + i, v);
            load_any_pack(source, i, source_type, w);
            load_any_pack(gradient.data, i, gradient.type, g);
#pragma unroll
            for (int j = 0; j < W; j++) update(n, scale, g[j], m[j], v[j], w[j]);
            Pack<float>::store(slot.first_moment + i, m);
            Pack<float>::store(slot.second_moment + i, v);
            store_any4(source, i, source_type, w);
            if (slot.master) store_any4(slot.parameter, i, slot.parameter_type, w);
        }
        if (p.clear) {
            if (gradient.type == F32) *reinterpret_cast<uint4*>((float*)gradient.data + i) = make_uint4(0, 0, 0, 0);
            else *reinterpret_cast<uint2*>((uint16_t*)gradient.data + i) = make_uint2(0, 0);
        }
    }
    for (int k = packed + threadIdx.x; k < count; k += Threads) {
        const long long i = begin + k;
        if (!skip) {
            float m = slot.first_moment[i], v = slot.second_moment[i], w = load_any(source, i, source_type);
            update(n, scale, load_any(gradient.data, i, gradient.type), m, v, w);
            slot.first_moment[i] = m;
            slot.second_moment[i] = v;
            store_any(source, i, source_type, w);
            if (slot.master) store_any(slot.parameter, i, slot.parameter_type, w);
        }
        if (p.clear) store_any(gradient.data, i, gradient.type, 0);
    }
}
