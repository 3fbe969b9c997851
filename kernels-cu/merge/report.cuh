// merge_report — per tile: Σ e², Σ Δ², max |e|, number of elements with W′ = W in bits though Δ ≠ 0; e = (W′ − W) − Δ,
//   W′ = round(W + Δ). Nothing is written to W
// merge_report_sum — the tiles' numbers to one set for each matrix
// Dtypes: as in merge.cu; e and the sums in f64.  Bytes: R·C·e + 6·r·(R + C).  Bound: memory where f64 is half of f32's speed
// Algorithm: a block a tile as in merge.cu, then a block a matrix
// Numerics: W′ − W and the difference are exact in f64 but for exponents 2⁴⁵ apart; sums in an order that the shapes fix. An
//   error that is not a number counts as infinite
#pragma once
#include "tile.cuh"

struct MergeError {
    double loss;
    double delta;
    double largest;
    long long vanished;

    __device__ __forceinline__ void add(const MergeError& other) {
        loss += other.loss;
        delta += other.delta;
        largest = fmax(largest, other.largest);
        vanished += other.vanished;
    }

    // Over the block's threads, in a tree; the result is thread 0's.
    __device__ __forceinline__ void sum_block() {
        __shared__ MergeError warps[DeltaThreads / 32];
#pragma unroll
        for (int d = 16; d > 0; d /= 2)
            add({__shfl_down_sync(0xffffffffu, loss, d), __shfl_down_sync(0xffffffffu, delta, d),
                 __shfl_down_sync(0xffffffffu, largest, d), __shfl_down_sync(0xffffffffu, vanished, d)});
        if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = *this;
        __syncthreads();
        if (threadIdx.x == 0)
            for (int i = 1; i < DeltaThreads / 32; i++) add(warps[i]);
    }
};

static_assert(sizeof(MergeError) == 32, "as in MergeCuda");

struct MergeReportParams {
    MergeTable table;
    MergeError* tile_errors;
    MergeError* errors;  // [matrices]
    int tiles;
};

template <typename T>
__device__ __forceinline__ void report_tile(const MergeReportParams& p, const MergeMatrix& m, uint4* shared) {
    using D = DeltaTile<T>;
    using W = Word<T>;
    constexpr int H = W::H;
    constexpr uint32_t Half = H == 1 ? 0xffffffffu : 0xffffu;
    uint4* pieces = shared + DeltaFactorQuads;
    float delta[DeltaPieces][D::N];
    delta_tile<T>(m.factors, [&] { return tile_of<T>(m, hidden(blockIdx.x)); }, shared, pieces, delta);
    // W's pieces and the factors are padded with zeros: elements outside W add nothing.
    const uint4* own = D::slots(pieces);
    MergeError sum = {0, 0, 0, 0};
    int vanished = 0;
#pragma unroll
    for (int i = 0; i < DeltaPieces; i++) {
        const Words words = words_of(own[i * DeltaThreads]);
#pragma unroll
        for (int c = 0; c < 4; c++) {
            float x[H], y[H];
            W::split(words.w[c], x);
#pragma unroll
            for (int h = 0; h < H; h++) y[h] = __fadd_rn(x[h], delta[i][c * H + h]);
            const uint32_t merged = W::join(y);
            W::split(merged, y);
#pragma unroll
            for (int h = 0; h < H; h++) {
                const float d = delta[i][c * H + h];
                const double e = fabs(((double)y[h] - x[h]) - d);
                sum.loss += e * e;
                sum.delta += (double)d * d;
                sum.largest = fmax(sum.largest, e);
                vanished += d != 0 && ((merged ^ words.w[c]) >> (16 * h) & Half) == 0;
            }
        }
    }
    // The sum of squares tells of an error that is not a number; fmax does not.
    if (isnan(sum.loss)) sum.loss = sum.largest = __longlong_as_double(0x7ff0000000000000ll);
    sum.vanished = vanished;
    sum.sum_block();
    if (threadIdx.x == 0) p.tile_errors[blockIdx.x] = sum;
}

ENGINE_PARAMS(merge_report, MergeReportParams)
extern "C" __global__ void __launch_bounds__(DeltaThreads, 2) merge_report(const MergeReportParams p) {
    uint4* shared = dynamic_shared<uint4>();
    const MergeMatrix& m = matrix_of(p.table, blockIdx.x);
    if (m.type == BF16) report_tile<bf16>(p, m, shared);
    else if (m.type == F16) report_tile<f16>(p, m, shared);
    else report_tile<float>(p, m, shared);
}

ENGINE_PARAMS(merge_report_sum, MergeReportParams)
extern "C" __global__ void __launch_bounds__(DeltaThreads) merge_report_sum(const MergeReportParams p) {
    const MergeMatrix* m = p.table.matrices + blockIdx.x;
    const int begin = p.table.matrices ? m->first_tile : 0;
    const int end = p.table.matrices && blockIdx.x + 1 < p.table.count ? m[1].first_tile : p.tiles;
    MergeError sum = {0, 0, 0, 0};
    for (int i = begin + (int)threadIdx.x; i < end; i += DeltaThreads) sum.add(p.tile_errors[i]);
    sum.sum_block();
    if (threadIdx.x == 0) p.errors[blockIdx.x] = sum;
}
