// rmsnorm_fwd — y[r,c] = x[r,c] * rstd[r] * w[c], rstd[r] = 1 / sqrt(mean_c(x²) + eps); saves rstd where asked for
// rmsnorm_bwd — dx = rstd·(g − x̂·mean(g·x̂)) with x̂ = x·rstd and g = dy·w, or dx += where asked for
// rmsnorm_dw — partial sums over chunks of rows of dy·x̂;  rmsnorm_dw_sum — dw += their sum
// Shapes: x, dy [R,C] without gaps, y and dx with any row stride; w, dw [C]; rstd [R] f32.  C and the pointers may be unaligned (slower)
// Dtypes: x, y f32 | bf16 | f16; w, dw any of them; accumulates in f32.  Arch: sm_80+
// Bytes: forward 2·R·C·e + C·e + 4·R, backward 3·R·C·e, with dx += 4·R·C·e.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: a row stays in registers, 4 packs of 16 bytes a thread of each operand, all loaded before the first is used; its
//   threads are a part of a warp, a warp, or the warps of a block.  Unaligned or very long rows, and weights of another dtype:
//   one block a row, element by element (common/rownorm_fwd.cuh, rownorm_bwd.cuh)
// Numerics: fixed reduction order by C and alignment alone, deterministic.  Aliasing: y may be x, dx may be dy
#include "../common/column_sums.cuh"
#include "../common/rownorm_bwd.cuh"
#include "../common/rownorm_fwd.cuh"

template <typename T> __device__ void forward(const RowNormForwardParams& p) { row_norm_forward<T, false>(p); }
template <typename T> __device__ void backward(const RowNormBackwardParams& p) { row_norm_backward<T, false>(p); }
template <typename T> __device__ void weight(const RowNormWeightParams& p) { row_norm_weight<T, false>(p); }

ENGINE_ROW_KERNEL(rmsnorm_fwd, RowNormForwardParams, 384, forward)
ENGINE_ROW_KERNEL(rmsnorm_bwd, RowNormBackwardParams, 320, backward)
ENGINE_KERNEL(rmsnorm_dw, RowNormWeightParams, 256, weight)
ENGINE_SUM_PARTIALS(rmsnorm_dw_sum)
