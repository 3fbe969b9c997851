// attention — causal scaled dot-product attention with grouped key/value heads; see the files below for each kernel
#include "attention_bwd_kv.cuh"
#include "attention_bwd_q.cuh"
#include "attention_decode.cuh"
#include "attention_delta.cuh"
#include "attention_f32.cuh"
#include "attention_fwd.cuh"
#include "tuning.cuh"
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#include "wgmma_bwd_kv.cuh"
#include "wgmma_bwd_q.cuh"
#include "wgmma_fwd.cuh"
#endif

// Entry points for head dimensions up to D, in 16-bit types and in f32.
#define TENSOR_CORE_KERNELS(D, T)                                                                                         \
    extern "C" __global__ void __launch_bounds__(128, forward_blocks(D)) attention_fwd_d##D##_##T(                        \
        const AttentionForwardParams p) {                                                                                 \
        attention_forward<T, D>(p);                                                                                       \
    }                                                                                                                     \
    extern "C" __global__ void __launch_bounds__(128, backward_queries_blocks(D))                                         \
        attention_bwd_q_d##D##_##T(const AttentionBackwardParams p) {                                                     \
        attention_backward_q<T, D>(p);                                                                                    \
    }                                                                                                                     \
    extern "C" __global__ void __launch_bounds__(32 * BackwardKeysTiles<D>::Warps, backward_keys_blocks(D))               \
        attention_bwd_kv_d##D##_##T(const AttentionBackwardParams p) {                                                    \
        attention_backward_kv<T, D>(p);                                                                                   \
    }

#define ATTENTION_KERNELS(D)                                                                                              \
    ENGINE_PARAMS(attention_fwd_d##D, AttentionForwardParams)                                                             \
    ENGINE_PARAMS(attention_bwd_q_d##D, AttentionBackwardParams)                                                          \
    ENGINE_PARAMS(attention_bwd_kv_d##D, AttentionBackwardParams)                                                         \
    TENSOR_CORE_KERNELS(D, bf16)                                                                                          \
    TENSOR_CORE_KERNELS(D, f16)                                                                                           \
    extern "C" __global__ void __launch_bounds__(4 * FloatTiles<D>::Forward, 1)                                           \
        attention_fwd_d##D##_f32(const AttentionForwardParams p) {                                                        \
        attention_forward_f32<D>(p);                                                                                      \
    }                                                                                                                     \
    extern "C" __global__ void __launch_bounds__(4 * FloatTiles<D>::Backward, 1)                                          \
        attention_bwd_q_d##D##_f32(const AttentionBackwardParams p) {                                                     \
        attention_backward_q_f32<D>(p);                                                                                   \
    }                                                                                                                     \
    extern "C" __global__ void __launch_bounds__(4 * FloatTiles<D>::Backward, 1)                                          \
        attention_bwd_kv_d##D##_f32(const AttentionBackwardParams p) {                                                    \
        attention_backward_kv_f32<D>(p);                                                                                  \
    }

ATTENTION_KERNELS(32)
ATTENTION_KERNELS(64)
ATTENTION_KERNELS(96)
ATTENTION_KERNELS(128)
ATTENTION_KERNELS(256)

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define WGMMA_TYPED_KERNELS(D, T)                                                                                         \
    extern "C" __global__ void __launch_bounds__(2 * WgmmaRows, wgmma_forward_blocks(D))                                  \
        attention_fwd_wgmma_d##D##_##T(const AttentionForwardParams p) {                                                  \
        attention_forward_wgmma<T, D>(p);                                                                                 \
    }                                                                                                                     \
    extern "C" __global__ void __launch_bounds__(2 * WgmmaRows, wgmma_queries_blocks(D))                                  \
        attention_bwd_q_wgmma_d##D##_##T(const AttentionBackwardParams p) {                                               \
        attention_backward_q_wgmma<T, D>(p);                                                                              \
    }                                                                                                                     \
    extern "C" __global__ void __launch_bounds__(2 * WgmmaRows, WgmmaKeysBlocks)                                          \
        attention_bwd_kv_wgmma_d##D##_##T(const AttentionBackwardParams p) {                                              \
        attention_backward_kv_wgmma<T, D>(p);                                                                             \
    }

#define WGMMA_KERNELS(D)                                                                                                  \
    ENGINE_PARAMS(attention_fwd_wgmma_d##D, AttentionForwardParams)                                                       \
    ENGINE_PARAMS(attention_bwd_q_wgmma_d##D, AttentionBackwardParams)                                                    \
    ENGINE_PARAMS(attention_bwd_kv_wgmma_d##D, AttentionBackwardParams)                                                   \
    WGMMA_TYPED_KERNELS(D, bf16)                                                                                          \
    WGMMA_TYPED_KERNELS(D, f16)

WGMMA_KERNELS(64)
WGMMA_KERNELS(128)
#endif

ENGINE_PARAMS(attention_bwd_delta, AttentionBackwardParams)
extern "C" __global__ void __launch_bounds__(256) attention_bwd_delta_f32(const AttentionBackwardParams p) { attention_delta(p); }

// One block at least: left alone, the compiler aims at more and spills registers for it.
#define DECODE_BOUNDS DecodeThreads, 1
#define DECODE_KERNELS(D)                                                                                                 \
    template <typename T> __device__ __forceinline__ void attention_decode_d##D(const AttentionDecodeParams& p) {         \
        attention_decode<T, D>(p);                                                                                        \
    }                                                                                                                     \
    ENGINE_KERNEL(attention_decode_d##D, AttentionDecodeParams, DECODE_BOUNDS, attention_decode_d##D)

DECODE_KERNELS(32)
DECODE_KERNELS(64)
DECODE_KERNELS(128)
DECODE_KERNELS(256)

ENGINE_KERNEL(attention_combine, AttentionDecodeParams, 256, attention_combine)
