// The low-rank path beside frozen products, as far as it is no product itself, and its copies of A and B: see the kernels' headers.
#include "lowrank_down.cuh"
#include "lowrank_grad.cuh"
#include "lowrank_scale.cuh"
#include "lowrank_sum.cuh"
#include "lowrank_swiglu.cuh"
#include "lowrank_swiglu_down.cuh"
#include "lowrank_write.cuh"

#define LOWRANK_GRAD(name, tiles, rank, down)                                                                             \
    ENGINE_PARAMS(name##rank, LowRankGradParams)                                                                          \
    extern "C" __global__ void __launch_bounds__(GradThreads, 1) name##rank##_bf16(const LowRankGradParams p) {           \
        lowrank_grad<bf16, tiles, down>(p);                                                                               \
    }                                                                                                                     \
    extern "C" __global__ void __launch_bounds__(GradThreads, 1) name##rank##_f16(const LowRankGradParams p) {            \
        lowrank_grad<f16, tiles, down>(p);                                                                                \
    }

LOWRANK_GRAD(lowrank_grad_y_r, 1, 8, true)
LOWRANK_GRAD(lowrank_grad_y_r, 2, 16, true)
LOWRANK_GRAD(lowrank_grad_y_r, 4, 32, true)
LOWRANK_GRAD(lowrank_grad_x_r, 1, 8, false)
LOWRANK_GRAD(lowrank_grad_x_r, 2, 16, false)
LOWRANK_GRAD(lowrank_grad_x_r, 4, 32, false)
LOWRANK_GRAD(lowrank_grad_x_r, 6, 48, false)
LOWRANK_GRAD(lowrank_grad_x_r, 8, 64, false)

#define LOWRANK_SWIGLU(tiles, rank, blocks)                                                                              \
    ENGINE_PARAMS(lowrank_swiglu_bwd_r##rank, LowRankSwiGluParams)                                                        \
    extern "C" __global__ void __launch_bounds__(GradThreads, blocks)                                                     \
        lowrank_swiglu_bwd_r##rank##_bf16(const LowRankSwiGluParams p) { lowrank_swiglu_bwd<bf16, tiles>(p); }            \
    extern "C" __global__ void __launch_bounds__(GradThreads, blocks)                                                     \
        lowrank_swiglu_bwd_r##rank##_f16(const LowRankSwiGluParams p) { lowrank_swiglu_bwd<f16, tiles>(p); }

LOWRANK_SWIGLU(1, 8, 3)
LOWRANK_SWIGLU(2, 16, 3)
LOWRANK_SWIGLU(4, 32, 3)
LOWRANK_SWIGLU(6, 48, 2)
LOWRANK_SWIGLU(8, 64, 2)

#define LOWRANK_DOWN(tiles, rank, row_tiles, rows)                                                                       \
    ENGINE_PARAMS(lowrank_down_m##rows##_r##rank, LowRankDownParams)                                                      \
    extern "C" __global__ void __launch_bounds__(DownThreads, 2)                                                          \
        lowrank_down_m##rows##_r##rank##_bf16(const LowRankDownParams p) { lowrank_down<bf16, tiles, row_tiles>(p); }     \
    extern "C" __global__ void __launch_bounds__(DownThreads, 2)                                                          \
        lowrank_down_m##rows##_r##rank##_f16(const LowRankDownParams p) { lowrank_down<f16, tiles, row_tiles>(p); }

LOWRANK_DOWN(1, 8, 1, 16)
LOWRANK_DOWN(2, 16, 1, 16)
LOWRANK_DOWN(4, 32, 1, 16)
LOWRANK_DOWN(1, 8, 2, 32)
LOWRANK_DOWN(2, 16, 2, 32)
LOWRANK_DOWN(4, 32, 2, 32)

#define LOWRANK_SWIGLU_DOWN(tiles, rank, row_tiles, rows)                                                                 \
    ENGINE_PARAMS(lowrank_swiglu_down_m##rows##_r##rank, LowRankSwiGluDownParams)                                         \
    extern "C" __global__ void __launch_bounds__(DownThreads, 2)                                                          \
        lowrank_swiglu_down_m##rows##_r##rank##_bf16(const LowRankSwiGluDownParams p) {                                   \
        lowrank_swiglu_down<bf16, tiles, row_tiles>(p);                                                                   \
    }                                                                                                                     \
    extern "C" __global__ void __launch_bounds__(DownThreads, 2)                                                          \
        lowrank_swiglu_down_m##rows##_r##rank##_f16(const LowRankSwiGluDownParams p) {                                    \
        lowrank_swiglu_down<f16, tiles, row_tiles>(p);                                                                    \
    }

LOWRANK_SWIGLU_DOWN(1, 8, 1, 16)
LOWRANK_SWIGLU_DOWN(2, 16, 1, 16)
LOWRANK_SWIGLU_DOWN(4, 32, 1, 16)
LOWRANK_SWIGLU_DOWN(1, 8, 2, 32)
LOWRANK_SWIGLU_DOWN(2, 16, 2, 32)
LOWRANK_SWIGLU_DOWN(4, 32, 2, 32)

ENGINE_PARAMS(lowrank_scale, LowRankScaleParams)
extern "C" __global__ void __launch_bounds__(ScaleThreads) lowrank_scale_bf16(const LowRankScaleParams p) { lowrank_scale<bf16>(p); }

ENGINE_PARAMS(lowrank_sum, LowRankSumParams)
extern "C" __global__ void __launch_bounds__(SumThreads) lowrank_sum_bf16(const LowRankSumParams p) { lowrank_sum<bf16>(p); }
extern "C" __global__ void __launch_bounds__(SumThreads) lowrank_sum_f16(const LowRankSumParams p) { lowrank_sum<f16>(p); }

ENGINE_KERNEL(lowrank_write, LowRankWriteParams, 256, lowrank_write)
