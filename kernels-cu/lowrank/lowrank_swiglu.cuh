// lowrank_swiglu_bwd — dg = dy·u·silu′(g), du = dy·silu(g), and partial sums of dA = dSᵀ·y with y = silu(g)·u, in one pass
// Shapes: dy, g, u, dg, du [M,C] and F = dS [M,width]; C, width and strides are multiples of 8, width at most 8·Tiles
// Dtypes: bf16 | f16, f32 sums; y is rounded to the dtype as swiglu_fwd does.  Arch: sm_80+
// Bytes: 5·M·C·e.  Flops: 2·M·C·width and the activation.  Bound: memory, target >= 85% of copy bandwidth
// Algorithm: a block owns 128 columns and a range of rows, 32 at a time: a thread forms two packs of 8 neighbours, whose inputs
//   are loaded into registers a step ahead, and leaves y in a tile of shared memory (two of them, one barrier a step), which the
//   8 warps, 16 columns each, multiply with dS transposed. Sums over row blocks are lowrank_sum's.
// Numerics: deterministic: blocks depend on shapes alone; dg and du have swiglu_bwd's bits.  Aliasing: dg and du may be g and u
// Versions: v1 85% of copy at 8192×8192, rank 16, 185 µs, lowrank_sum's launch included; swiglu_bwd alone takes 173 µs (H200, 2026-11-27)
#pragma once
#include "lowrank_grad.cuh"
#include "swiglu_pack.cuh"

struct LowRankSwiGluParams {
    const void* dy;
    const void* gate;
    const void* up;
    void* dgate;
    void* dup;
    const void* f;
    float* partial;  // [row blocks][width][columns]
    int dy_stride, gate_stride, up_stride, dgate_stride, dup_stride, f_stride;  // bytes
    int rows;
    int columns;
    int width;
    int row_groups;  // 32-row groups of a block
    int column_blocks;
};

constexpr int SwiGluRows = 32, SwiGluTiles = 2, SwiGluFactors = 3;

// Shared memory: tiles of y, ring of dS.
template <int Tiles> constexpr int SwiGluSharedBytes = 2 * SwiGluRows * (SwiGluTiles * GradColumns + SwiGluFactors * Tiles * 8);

// Eight neighbours: y, and dg and du in place of dy and u.
template <typename T> __device__ __forceinline__ uint4 swiglu_pack(const uint4& gate, uint4& up, uint4& dy) {
    uint32_t gates[4] = {gate.x, gate.y, gate.z, gate.w}, ups[4] = {up.x, up.y, up.z, up.w}, dys[4] = {dy.x, dy.y, dy.z, dy.w}, y[4];
    float sigma[8];
    sigmoid_pack<T>(gates, sigma);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        float2 g = unpack2<T>(gates[k]), u = unpack2<T>(ups[k]), d = unpack2<T>(dys[k]);
        float s = sigma[2 * k], r = sigma[2 * k + 1], a = g.x * s, b = g.y * r;  // silu
        y[k] = pack2<T>(a * u.x, b * u.y);
        ups[k] = pack2<T>(d.x * a, d.y * b);
        dys[k] = pack2<T>(d.x * u.x * (s * (1.0f + g.x * (1.0f - s))), d.y * u.y * (r * (1.0f + g.y * (1.0f - r))));
    }
    up = make_uint4(ups[0], ups[1], ups[2], ups[3]);
    dy = make_uint4(dys[0], dys[1], dys[2], dys[3]);
    return make_uint4(y[0], y[1], y[2], y[3]);
}

template <typename T, int Tiles> __device__ __forceinline__ void lowrank_swiglu_bwd(const LowRankSwiGluParams& p) {
    constexpr int R = Tiles * 8, Packs = SwiGluRows * GradColumns / 8 / GradThreads, PackRows = GradThreads * 8 / GradColumns;
    T* tiles = dynamic_shared<T>();
    T* factors = tiles + SwiGluTiles * SwiGluRows * GradColumns;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int column_block = blockIdx.x % p.column_blocks, row_block = blockIdx.x / p.column_blocks;
    int first = column_block * GradColumns, row0 = row_block * p.row_groups * SwiGluRows;
    int steps = min(p.row_groups, (p.rows - row0 + SwiGluRows - 1) / SwiGluRows);
    int piece = (threadIdx.x & 15) * 8, own = threadIdx.x >> 4;
    bool inside = first + piece < p.columns;
    auto place = [&](const void* matrix, int row, int stride) { return (char*)matrix + (first + piece) * sizeof(T) + (long long)row * stride; };

    // A thread's packs of the next step; what lies outside is zero, and so is its y.
    uint4 gate[Packs], up[Packs], dy[Packs];
    auto load = [&](int step, int n) {
        int row = row0 + step * SwiGluRows + n * PackRows + own;
        gate[n] = up[n] = dy[n] = make_uint4(0, 0, 0, 0);
        if (row < p.rows && inside) {
            gate[n] = *(const uint4*)place(p.gate, row, p.gate_stride);
            up[n] = *(const uint4*)place(p.up, row, p.up_stride);
            dy[n] = *(const uint4*)place(p.dy, row, p.dy_stride);
        }
    };
    auto load_factor = [&](int step) {
        static_assert(SwiGluRows * Tiles <= GradThreads, "a piece a thread");
        if (step < steps && threadIdx.x < SwiGluRows * Tiles) {
            int k = threadIdx.x / Tiles, c = threadIdx.x % Tiles, row = row0 + step * SwiGluRows + k;
            copy_async<16>(
                factors + step % SwiGluFactors * (SwiGluRows * R) + factor_offset<Tiles>(k, c),
                (const char*)p.f + (long long)row * p.f_stride + c * 16, row < p.rows && c * 8 < p.width);
        }
        commit_copies();
    };

    float sum[Tiles][4];
#pragma unroll
    for (int n = 0; n < Tiles; n++) sum[n][0] = sum[n][1] = sum[n][2] = sum[n][3] = 0;
    load_factor(0);
#pragma unroll
    for (int n = 0; n < Packs; n++) load(0, n);

    for (int i = 0; i < steps; i++) {
        load_factor(i + 1);
        T* tile = tiles + i % SwiGluTiles * (SwiGluRows * GradColumns);
#pragma unroll
        for (int n = 0; n < Packs; n++) {
            uint4 g = gate[n], u = up[n], d = dy[n];
            if (i + 1 < steps) load(i + 1, n);
            int k = n * PackRows + own, row = row0 + i * SwiGluRows + k;
            *(uint4*)(tile + tile_offset<GradColumns>(k, piece)) = swiglu_pack<T>(g, u, d);
            if (row < p.rows && inside) {
                *(uint4*)place(p.dgate, row, p.dgate_stride) = d;
                *(uint4*)place(p.dup, row, p.dup_stride) = u;
            }
        }
        // The barrier of a step lies between a tile's reads and the writes two steps later, and so for the ring of dS.
        wait_for_groups<1>();
        __syncthreads();
        const T* factor = factors + i % SwiGluFactors * (SwiGluRows * R);
#pragma unroll
        for (int k = 0; k < SwiGluRows; k += 16) {
            uint32_t a[4];
            int row = k + (lane & 7) + (lane >> 4) * 8, c = warp * 16 + ((lane >> 3) & 1) * 8;
            load_matrices_transposed(a, shared_address(tile + tile_offset<GradColumns>(row, c)));
#pragma unroll
            for (int n = 0; n < Tiles; n += 2) {
                uint32_t b[4];
                int c = n + (n + 1 < Tiles ? lane >> 4 : 0);
                load_matrices_transposed(b, shared_address(factor + factor_offset<Tiles>(k + (lane & 15), c)));
                mma<T>(sum[n], a, b[0], b[1]);
                if (n + 1 < Tiles) mma<T>(sum[n + 1], a, b[2], b[3]);
            }
        }
    }
    wait_for_copies();

    float* partial = p.partial + (long long)row_block * p.width * p.columns;
    int t = (lane & 3) * 2, g = lane >> 2;
#pragma unroll
    for (int n = 0; n < Tiles; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int c = first + warp * 16 + g + (e >> 1) * 8, j = n * 8 + t + (e & 1);
            if (c < p.columns && j < p.width) partial[(long long)j * p.columns + c] = sum[n][e];
        }
}
