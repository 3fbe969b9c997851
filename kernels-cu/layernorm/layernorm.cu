// layernorm_fwd — y[r,c] = (x[r,c] − mean[r])·rstd[r]·w[c] + b[c]; saves mean and rstd where asked for
// layernorm_bwd — dx = rstd·(g − mean(g) − x̂·mean(g·x̂)) with x̂ = (x − mean)·rstd and g = dy·w, or dx += where asked for
// layernorm_dw — partial sums over chunks of rows of dy·x̂ and of dy;  layernorm_dw_sum — dw (or db) += their sum
// Shapes: x, dy [R,C] without gaps, y and dx with any row stride; w, b, dw, db [C]; mean, rstd [R] f32.  C and the pointers may be unaligned (slower)
// Dtypes: x, y f32 | bf16 | f16; w, b, dw, db any of them; accumulates in f32.  Arch: sm_80+
// Bytes: forward 2·R·C·e + 2·C·e + 8·R, backward 3·R·C·e, with dx += 4·R·C·e.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: that of rmsnorm; the variance is that of differences from the mean, from registers
// Numerics: fixed reduction order by C and alignment alone, deterministic.  Aliasing: y may be x, dx may be dy
#include "../common/column_sums.cuh"
#include "../common/rownorm_bwd.cuh"
#include "../common/rownorm_fwd.cuh"

template <typename T> __device__ void forward(const RowNormForwardParams& p) { row_norm_forward<T, true>(p); }
template <typename T> __device__ void backward(const RowNormBackwardParams& p) { row_norm_backward<T, true>(p); }
template <typename T> __device__ void weight(const RowNormWeightParams& p) { row_norm_weight<T, true>(p); }

ENGINE_ROW_KERNEL(layernorm_fwd, RowNormForwardParams, 384, forward)
ENGINE_ROW_KERNEL(layernorm_bwd, RowNormBackwardParams, 320, backward)
ENGINE_KERNEL(layernorm_dw, RowNormWeightParams, 256, weight)
ENGINE_SUM_PARTIALS(layernorm_dw_sum)
