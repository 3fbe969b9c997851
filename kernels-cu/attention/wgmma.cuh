// Hopper's asynchronous tensor-core products (PTX ISA 8.0, "wgmma"), and tiles in shared memory as they read them.
//
// A tile of `Rows` rows is cut into parts of 64 columns, one after the other: rows of 128 bytes whose 16-byte pieces are
// permuted by the row (piece ^ row & 7, "128-byte swizzle").
//
// Accumulators of a warpgroup: c[n][0..3] is block n of 8 columns in the layout of mma; its warp w has the rows 16·w on.
#pragma once
#include "tiles.cuh"

constexpr int PartColumns = 64, PartRowBytes = 128;

// The block's shared memory, its tiles first. They have to begin at multiples of 1024 bytes, and dynamic shared memory does as long
// as the kernel has no static shared memory, which would lie before it: whatever else a kernel keeps goes behind its tiles.
extern __shared__ __align__(1024) unsigned char wgmma_memory[];

// A descriptor for rows of 128 bytes with that swizzle (bit 62), groups of 8 rows 1024 bytes apart (bits 32 to 45, in 16 bytes).
// The low 14 bits are the address in 16 bytes; the field at bit 16 counts in other layouts only.
__device__ __forceinline__ uint64_t tile_descriptor(uint32_t address) {
    return (uint64_t)1 << 62 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 16 | (address >> 4 & 0x3fff);
}

// What a descriptor has to be raised by for some rows, or some columns of 16, further on.
__device__ __forceinline__ constexpr uint64_t rows_on(int rows) { return rows * PartRowBytes >> 4; }
__device__ __forceinline__ constexpr uint64_t columns_on(int columns, int rows_of_tile) {
    return columns / PartColumns * rows_on(rows_of_tile) + (columns % PartColumns * 2 >> 4);
}

// Before products read registers that were written, and accumulators.
__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ __forceinline__ void products_end() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }

// Waits until at most `Pending` of the newest groups of products are on their way.
template <int Pending> __device__ __forceinline__ void wait_for_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(Pending) : "memory");
}

// What the block's threads wrote to shared memory, or copied there and waited for, becomes visible to products. All of them call it,
// and so have all finished with what they did before.
__device__ __forceinline__ void show_to_products() {
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
    __syncthreads();
}

// Ties accumulators to this place in the program: nothing that uses them may move across, so that they stay alone in their
// registers from products_begin to the wait. Without it the compiler serializes the products.
template <int N> __device__ __forceinline__ void hold(float (&c)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) asm volatile("" : "+f"(c[n][e])::"memory");
}

// The same for first operands, which products on their way read.
template <int N> __device__ __forceinline__ void hold(uint32_t (&p)[N][4]) {
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) asm volatile("" : "+r"(p[n][e])::"memory");
}

#define WGMMA_ROW(c, n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
#define WGMMA_4ROWS(c, n) WGMMA_ROW(c, n), WGMMA_ROW(c, n + 1), WGMMA_ROW(c, n + 2), WGMMA_ROW(c, n + 3)
#define WGMMA_C64                                                                                                         \
    "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30," \
    "%31}"

#define WGMMA_TILES(T, NAME)                                                                                              \
    template <> __device__ __forceinline__ void multiply_tiles<T>(float (&c)[8][4], uint64_t a, uint64_t b, int add) {    \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"                                                         \
                     "wgmma.mma_async.sync.aligned.m64n64k16.f32." NAME "." NAME " " WGMMA_C64 ", %32, %33, p, 1, 1, 0, 0;\n}\n" \
                     : WGMMA_4ROWS(c, 0), WGMMA_4ROWS(c, 4)                                                               \
                     : "l"(a), "l"(b), "r"(add));                                                                         \
    }                                                                                                                     \
    template <> __device__ __forceinline__ void multiply_held<T>(float (*c)[4], const uint32_t (&a)[4], uint64_t b) {     \
        asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." NAME "." NAME " " WGMMA_C64                            \
                     ", {%32,%33,%34,%35}, %36, 1, 1, 1, 1;\n"                                                            \
                     : WGMMA_4ROWS(c, 0), WGMMA_4ROWS(c, 4)                                                               \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                               \
    }

// c[64][64] = a[64][16]·b[64][16]ᵀ, plus c if `add`: both in shared memory by rows.
template <typename T> __device__ __forceinline__ void multiply_tiles(float (&c)[8][4], uint64_t a, uint64_t b, int add);

// c[64][64] += a[64][16]·b[16][64]: a in registers, b in shared memory by rows.
template <typename T> __device__ __forceinline__ void multiply_held(float (*c)[4], const uint32_t (&a)[4], uint64_t b);

WGMMA_TILES(bf16, "bf16")
WGMMA_TILES(f16, "f16")

// c[64][64] = a[64][D]·b[64][D]ᵀ for rows that begin at the descriptors; a's tile has ARows rows and b's BRows.
template <typename T, int D, int ARows, int BRows>
__device__ __forceinline__ void multiply_rows_async(float (&c)[8][4], uint64_t a, uint64_t b) {
#pragma unroll
    for (int k = 0; k < D; k += 16) multiply_tiles<T>(c, a + columns_on(k, ARows), b + columns_on(k, BRows), k);
}

// c[64][D] += p[64][64]·b[64][D]: p as packed operands, b a tile of 64 rows.
template <typename T, int D>
__device__ __forceinline__ void multiply_add_async(float (&c)[D / 8][4], const uint32_t (&p)[4][4], uint64_t b) {
#pragma unroll
    for (int step = 0; step < 4; step++)
#pragma unroll
        for (int part = 0; part < D / 64; part++)
            multiply_held<T>(c + part * 8, p[step], b + rows_on(step * 16) + columns_on(part * 64, 64));
}

// Accumulators rounded to T as first operands.
template <typename T> __device__ __forceinline__ void pack_rows(uint32_t (&p)[4][4], const float (&c)[8][4]) {
#pragma unroll
    for (int step = 0; step < 4; step++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const float* pair = &c[2 * step + e / 2][2 * (e & 1)];
            p[step][e] = pack2<T>(pair[0], pair[1]);
        }
}

// Copies tiles of Rows rows of a head to shared memory, one after the other: what it lacks becomes zero. Asynchronous; the head
// allows 16-byte accesses.
template <typename T, int D, int Rows, int Threads> struct PartLoader {
    static constexpr int Pieces = D / 8, Step = Threads / Pieces;
    static_assert(Threads % Pieces == 0 && Step % 8 == 0 && Rows % Step == 0, "a thread has the same place in every Step-th row");

    const T* from;  // this thread's first piece
    long long stride;
    uint32_t place;  // of it in a tile
    int row;
    bool inside;

    // From row `first` on.
    __device__ __forceinline__ PartLoader(const void* tensor, const HeadStrides& strides, int b, int first, int head, int columns)
        : from(at((const T*)tensor, strides, b, first, head)), stride(strides.row) {
        int piece = threadIdx.x % Pieces;
        row = threadIdx.x / Pieces;
        from += row * stride + piece * 8;
        place = piece / 8 * (Rows * PartRowBytes) + row * PartRowBytes + ((piece ^ row) % 8) * 16;
        inside = piece * 8 < columns;
    }

    // The next tile, of which the head has `rows` rows, to a shared address.
    __device__ __forceinline__ void load(uint32_t tile, int rows) {
        int left = inside ? rows - row : 0;
#pragma unroll
        for (int n = 0; n < Rows; n += Step) copy_async<16>(tile + place + n * PartRowBytes, from + n * stride, n < left);
        from += Rows * stride;
    }
};

// store_rows for the rows of tokens from `token` on, of which there are `rows`, turned back by the angles of their positions where
// there are some; D/2 is a multiple of 8 then.
template <typename T, int D>
__device__ __forceinline__ void store_turned_rows(
    T* tile, const float (&c)[D / 8][4], T* to, long long stride, int rows, long long token, const AttentionBackwardParams& p) {
    const float scale = p.shape.scale;
    const int columns = p.shape.dimension, half = columns / 2, lane = threadIdx.x & 31;
    if (!p.cos) {
        store_rows<T, D>(tile, c, scale, scale, to, stride, rows, columns, true);
        return;
    }
    put_rows<T, D>(tile, c, scale, scale);
    for (int i = lane; i < 16 * (D / 16); i += 32) {
        int row = i / (D / 16), column = i % (D / 16) * 8;
        if (row >= rows || column >= half) continue;
        float lo[8], hi[8], cosine[8], sine[8];
        Pack<T>::load(tile + row * TileStride<D> + column, lo);
        Pack<T>::load(tile + row * TileStride<D> + column + half, hi);
        long long angle = (long long)p.positions[token + row] * half + column;
        load_any_pack(p.cos, angle, F32, cosine);
        load_any_pack(p.sin, angle, F32, sine);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float a = lo[j], d = hi[j], back = -sine[j];
            lo[j] = a * cosine[j] - d * back;
            hi[j] = d * cosine[j] + a * back;
        }
        Pack<T>::store(to + row * stride + column, lo);
        Pack<T>::store(to + row * stride + column + half, hi);
    }
}
