// The instructions behind the tensor-core kernels (PTX ISA 8.0, sections "mma.m16n8k16", "ldmatrix", "cp.async").
#pragma once
#include "types.cuh"

constexpr float Log2E = 1.4426950408889634f;

// The block's dynamic shared memory.
template <typename T> __device__ __forceinline__ T* dynamic_shared() {
    extern __shared__ uint4 dynamic_shared_memory[];
    return reinterpret_cast<T*>(dynamic_shared_memory);
}

__device__ __forceinline__ uint32_t shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }
__device__ __forceinline__ uint32_t shared_address(uint32_t address) { return address; }

// 4, 8 or 16 bytes to a pointer or an address in shared memory, or as many zero bytes: nothing is read then.
template <int Bytes, typename To> __device__ __forceinline__ void copy_async(To to, const void* from, bool copy) {
    int bytes = copy ? Bytes : 0;
    if constexpr (Bytes == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(bytes));
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(bytes), "n"(Bytes));
}

__device__ __forceinline__ void copy_async_16(void* to, const void* from, bool copy) { copy_async<16>(to, from, copy); }

// For lines that are not asked for again soon: the L2 cache may let them go first.
__device__ __forceinline__ uint64_t read_once() {
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;\n" : "=l"(policy));
    return policy;
}

__device__ __forceinline__ void copy_async_16(void* to, const void* from, bool copy, uint64_t policy) {
    int bytes = copy ? 16 : 0;
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;\n" ::"r"(shared_address(to)), "l"(from), "r"(bytes),
                 "l"(policy));
}

// Ends a group of copies.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

// Waits until at most `Pending` of this thread's newest groups are on their way.
template <int Pending> __device__ __forceinline__ void wait_for_groups() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(Pending) : "memory");
}

// Waits for all of this thread's copies; a barrier must follow before other threads' copies are read.
__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_all;\n" ::: "memory"); }

// Four 8×8 matrices of 16-bit elements: lane l gives the address of row l & 7 of matrix l >> 3 and gets the elements
// 2·(l & 3) and the next of row l >> 2 of each.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
}

// The same with each matrix transposed: the elements of rows 2·(l & 3) and the next in column l >> 2.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
}

// c[16][8] += a[16][16]·b[16][8]. With g = lane >> 2 and t = 2·(lane & 3) a lane holds of c (g, t), (g, t+1), (g+8, t),
// (g+8, t+1); of a the pairs from (g, t), (g+8, t), (g, t+8), (g+8, t+8); of b the pairs (t, g), (t+1, g) and (t+8, g), (t+9, g).
template <typename T> __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

template <> __device__ __forceinline__ void mma<bf16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <> __device__ __forceinline__ void mma<f16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two neighbours in one register, the first in the low half.
template <typename T> __device__ __forceinline__ uint32_t pack2(float first, float second);

template <> __device__ __forceinline__ uint32_t pack2<bf16>(float first, float second) {
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(r) : "f"(second), "f"(first));
    return r;
}

template <> __device__ __forceinline__ uint32_t pack2<f16>(float first, float second) {
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(r) : "f"(second), "f"(first));
    return r;
}

// 2^x with a relative error up to 2^-22; results below 2^-126 become 0.
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
}
