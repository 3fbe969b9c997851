// addnorm_rms_fwd — s = x + d; y[r,c] = s[r,c]·rstd[r]·w[c], rstd[r] = 1 / sqrt(mean_c(s²) + eps); saves rstd where asked for
// addnorm_layer_fwd — s = x + d; y[r,c] = (s[r,c] − mean[r])·rstd[r]·w[c] + b[c]; saves mean and rstd where asked for
// Shapes: s [R,C] without gaps, x, d and y [R,C] with any row stride; w, b [C]; mean, rstd [R] f32.  C and the pointers may be unaligned (slower)
// Dtypes: x, d, s, y f32 | bf16 | f16; w, b any of them; accumulates in f32.  Arch: sm_80+
// Bytes: 4·R·C·e + C·e + 4·R, for LayerNorm 4·R·C·e + 2·C·e + 8·R.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: that of rmsnorm and layernorm, whose source it shares
// Numerics: s is rounded before it is normalised: the bits are those of elementwise_add and then rmsnorm_fwd or layernorm_fwd,
//   as long as these choose the same path for s.  Deterministic.  Aliasing: s may be x or d
#include "../common/rownorm_fwd.cuh"

template <typename T> __device__ void rms(const RowNormForwardParams& p) { row_norm_forward<T, false, true>(p); }
template <typename T> __device__ void layer(const RowNormForwardParams& p) { row_norm_forward<T, true, true>(p); }

ENGINE_ROW_KERNEL(addnorm_rms_fwd, RowNormForwardParams, 384, rms)
ENGINE_ROW_KERNEL(addnorm_layer_fwd, RowNormForwardParams, 384, layer)
