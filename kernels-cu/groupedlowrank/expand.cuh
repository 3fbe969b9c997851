// groupedlowrank_expand_t16, _t64 — y[row(p)] += S[p]·Bᵀ of the adapter of position p
// Shapes: y [R,N] with a row stride; B of the table; S as the shrinking kernel left it, its splits added here.  16-byte accesses
//         of y where address, stride and N allow
// Dtypes: bf16 | f16 by tensor cores (S is rounded to the dtype), f32 by fused multiply-adds (tiles of 16); sums in f32.  Arch: sm_80+
// Bytes: e·(ranks·N + 2·rows·N) + 4·splits·rows·rank.  Bound: memory
// Algorithm: block (tile, 512 outputs) of 4 warps, 128 outputs each. S lies in shared memory; rows are the left operand, outputs the
//            right one. Outputs of four instructions are interleaved so that a lane ends with 8 neighbours of a row of y. A tile of
//            16 rows loads all of a warp's B before it waits for S
// Numerics: fixed order, deterministic.  A row of y is written by one tile alone
#pragma once
#include "params.cuh"
#include "shrink.cuh"

constexpr int ExpandOutputs = 512, WarpOutputs = ExpandOutputs / GroupedWarps;

struct ExpandParams {
    const GroupedAdapter* table;
    void* y;
    RowPlan plan;
    SplitSums sums;
    long long y_stride;
    int adapters;
    int outputs;
    int vectors;
};

// The ranks 16·step … of 32 outputs from n0 on: four right operands.
template <typename T>
__device__ __forceinline__ void load_b(const GroupedAdapter& adapter, int n0, int outputs, int step, uint2 (&b)[4]) {
    int lane = threadIdx.x & 31, g = lane >> 2, q = lane & 3, k = 16 * step + 4 * q;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int n = n0 + (g >> 1) * 8 + 2 * i + (g & 1);
        b[i] = n < outputs && k < adapter.b_stride
                   ? __ldg(reinterpret_cast<const uint2*>((const T*)adapter.b + (long long)n * adapter.b_stride + k))
                   : make_uint2(0, 0);
    }
}

// Adds 8 neighbours of a row of y, of which those below the end exist.
template <typename T>
__device__ __forceinline__ void add_outputs(T* y, int n, int outputs, bool vectors, const float (&sum)[8]) {
    if (vectors && n + 8 <= outputs) {
        float old[8];
        Pack<T>::load(y + n, old);
#pragma unroll
        for (int i = 0; i < 8; i++) old[i] += sum[i];
        Pack<T>::store(y + n, old);
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (n + i < outputs) y[n + i] = from_float<T>(to_float(y[n + i]) + sum[i]);
}

// wait(adapter) returns when S is there.
template <typename T, int MT, typename Wait>
__device__ __forceinline__ void expand_body(const ExpandParams& p, int at, int part, Wait&& wait) {
    constexpr int Groups = MT == 1 ? 4 : 1;  // of 32 outputs at once
    int4 tile = p.plan.tile(at);
    if (tile.z == 0) return;
    GroupedAdapter adapter = adapter_of(p.table, p.adapters, tile.x);
    if (adapter.rank == 0) return;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, q = lane & 3;
    int begin = part * ExpandOutputs + warp * WarpOutputs;
    uint2 b[Groups][4];
#pragma unroll
    for (int i = 0; i < Groups; i++) load_b<T>(adapter, begin + 32 * i, p.outputs, 0, b[i]);
    wait(adapter);

    T* s = dynamic_shared<T>();
    int steps = (adapter.rank + 15) / 16, pitch = 16 * steps + 8;
    for (int i = threadIdx.x; i < 16 * MT * 16 * steps; i += GroupedThreads) {
        int m = i / (16 * steps), j = i % (16 * steps);
        s[m * pitch + j] = from_float<T>(m < tile.z && j < adapter.rank ? p.sums.sum(tile.y + m, j) : 0.0f);
    }
    __syncthreads();
    for (int outer = 0; outer < WarpOutputs; outer += 32 * Groups) {
        if (begin + outer >= p.outputs) break;
        float c[MT][Groups][4][4] = {};
        for (int step = 0; step < steps; step++) {
            if (outer + step > 0) {
#pragma unroll
                for (int i = 0; i < Groups; i++) load_b<T>(adapter, begin + outer + 32 * i, p.outputs, step, b[i]);
            }
#pragma unroll
            for (int mt = 0; mt < MT; mt++) {
                uint2 upper = *reinterpret_cast<const uint2*>(s + (16 * mt + g) * pitch + 16 * step + 4 * q);
                uint2 lower = *reinterpret_cast<const uint2*>(s + (16 * mt + g + 8) * pitch + 16 * step + 4 * q);
                uint32_t a[4] = {upper.x, lower.x, upper.y, lower.y};
#pragma unroll
                for (int i = 0; i < Groups; i++)
#pragma unroll
                    for (int n = 0; n < 4; n++) mma<T>(c[mt][i][n], a, b[i][n].x, b[i][n].y);
            }
        }
#pragma unroll
        for (int mt = 0; mt < MT; mt++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int m = 16 * mt + 8 * half + g;
                if (m >= tile.z) continue;
                T* y = (T*)p.y + p.plan.row(tile.y + m) * p.y_stride;
#pragma unroll
                for (int i = 0; i < Groups; i++) {
                    float sum[8];
#pragma unroll
                    for (int n = 0; n < 4; n++) sum[2 * n] = c[mt][i][n][2 * half], sum[2 * n + 1] = c[mt][i][n][2 * half + 1];
                    add_outputs<T>(y, begin + outer + 32 * i + 8 * q, p.outputs, p.vectors, sum);
                }
            }
    }
}

__device__ __forceinline__ void expand_f32(const ExpandParams& p) {
    int4 tile = p.plan.tile(blockIdx.x);
    if (tile.z == 0) return;
    GroupedAdapter adapter = adapter_of(p.table, p.adapters, tile.x);
    if (adapter.rank == 0) return;
    float* s = dynamic_shared<float>();  // [rank][16]
    for (int i = threadIdx.x; i < 16 * adapter.rank; i += GroupedThreads) {
        int m = i & 15, j = i >> 4;
        s[i] = m < tile.z ? p.sums.sum(tile.y + m, j) : 0.0f;
    }
    __syncthreads();
    int end = min(p.outputs, (int)(blockIdx.y + 1) * ExpandOutputs);
    for (int n = blockIdx.y * ExpandOutputs + threadIdx.x; n < end; n += GroupedThreads) {
        float sum[16] = {};
        const float* b = (const float*)adapter.b + (long long)n * adapter.b_stride;
        for (int j = 0; j < adapter.rank; j++) {
            float w = b[j];
#pragma unroll
            for (int m = 0; m < 16; m++) sum[m] = fmaf(w, s[16 * j + m], sum[m]);
        }
#pragma unroll
        for (int m = 0; m < 16; m++)
            if (m < tile.z) ((float*)p.y)[p.plan.row(tile.y + m) * p.y_stride + n] += sum[m];
    }
}

ENGINE_PARAMS(groupedlowrank_expand_t16, ExpandParams)
ENGINE_PARAMS(groupedlowrank_expand_t64, ExpandParams)
extern "C" __global__ void __launch_bounds__(GroupedThreads) groupedlowrank_expand_t16_f32(const ExpandParams p) { expand_f32(p); }
extern "C" __global__ void __launch_bounds__(GroupedThreads, 4) groupedlowrank_expand_t16_bf16(const ExpandParams p) {
    expand_body<bf16, 1>(p, blockIdx.x, blockIdx.y, [](const GroupedAdapter&) {});
}
extern "C" __global__ void __launch_bounds__(GroupedThreads, 4) groupedlowrank_expand_t16_f16(const ExpandParams p) {
    expand_body<f16, 1>(p, blockIdx.x, blockIdx.y, [](const GroupedAdapter&) {});
}
extern "C" __global__ void __launch_bounds__(GroupedThreads) groupedlowrank_expand_t64_bf16(const ExpandParams p) {
    expand_body<bf16, 4>(p, blockIdx.x, blockIdx.y, [](const GroupedAdapter&) {});
}
extern "C" __global__ void __launch_bounds__(GroupedThreads) groupedlowrank_expand_t64_f16(const ExpandParams p) {
    expand_body<f16, 4>(p, blockIdx.x, blockIdx.y, [](const GroupedAdapter&) {});
}
