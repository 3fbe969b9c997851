// Δ = Σ scale·B·A of one or several adapters, formed a tile at a time by tensor cores and never held as a whole.
//
// Every factor is split once, when it is packed, into three bf16 numbers whose sum it is: x = x₀ + x₁ + x₂, |x₁| ≤ 2⁻⁸|x|,
// |x₂| ≤ 2⁻¹⁷|x|. Of the nine products of l and r six are formed, l₂r₀ + l₀r₂ + l₁r₁ + l₁r₀ + l₀r₁ + l₀r₀ in that order; what is left
// out is at most 2⁻²⁴|lr|. Three TF32 products would take as long (half the depth in each) and lose 2⁻²⁰.
//
// Numerics: the ranks of each adapter are padded with zeros to slices of 16, the depth of an mma. A slice's six sums are one
// chain of mma from 0; Δ is the f32 sum of the slices in order. An element's bits depend on its row of the left factor and its
// column of the right one alone, not on the tile, the pass or W's dtype: what one pass adds another subtracts. Another generation of
// GPUs may round otherwise. Error, with u = 2⁻²⁴ and S = Σ|lr|: an mma aligns 16 products (8 at a time on sm_80) and the sum before
// them to the largest and cuts each off at 2⁻²³ of it, so 2·(8 + 2)·2⁻²³ = 40u of its largest sum at most; that is S for l₀r₀, 2⁻⁷·S
// for the others. Together 41u·S, summed over the slices; 1u·S for what is left out; 1u·S for each slice that is added to others. In
// practice errors are about u·S. Factors below 2⁻¹¹⁰ lose what lies below 2⁻¹³⁴, half the smallest bf16; a factor that is no finite
// number makes NaN. Padding adds products of zeros and starts from 0, so that it changes no bit.
//
// A tile has 128 rows of 256 bytes of W, a warp 32 rows of 128 bytes of it. In the mma the columns are "M" and the rows "N", so that
// with g = lane / 4, t = lane % 4 a lane gets columns (g, g + 8) of rows (2t, 2t + 1). Which column an mma's number stands for is
// free: they are dealt out so that a lane has N neighbours, 16 bytes, eight lanes 128 bytes of a row, and four such pieces lie in
// four neighbouring rows; see delta_item.
//
// The factors are packed as lanes read them: [slice][unit of 16 rows or columns][x₀, x₁, x₂][lane] of 16 bytes, all that a tile needs of
// a slice side by side. The right factor's unit is an mma's A operand, the left one's the B operands of two. Extents are padded with
// zeros to multiples of 128. W waits in shared memory, not in registers, which Δ needs: every thread copies and reads the pieces
// that are its own, so that no barrier is needed for them.
#pragma once
#include "mma.cuh"

constexpr int DeltaRows = 128, DeltaRowBytes = 256, DeltaThreads = 256, DeltaDepth = 16;
constexpr int DeltaPieces = 8;      // of 16 bytes of W, for each thread
constexpr int DeltaItemQuads = 6;   // 16-byte words of a packed row or column in a slice
constexpr int DeltaUnitQuads = 96;  // of a unit, 16 of them
constexpr int DeltaTileQuads = DeltaRows * DeltaRowBytes / 16;

// The elements in one word of 4 bytes.
template <typename T> struct Word;
template <> struct Word<float> {
    static constexpr int H = 1;
    using U = uint32_t;
    static __device__ __forceinline__ void split(uint32_t w, float (&x)[H]) { x[0] = __uint_as_float(w); }
    static __device__ __forceinline__ uint32_t join(const float (&x)[H]) { return __float_as_uint(x[0]); }
};
template <> struct Word<bf16> {
    static constexpr int H = 2;
    using U = uint16_t;
    static __device__ __forceinline__ void split(uint32_t w, float (&x)[H]) {
        x[0] = __uint_as_float(w << 16), x[1] = __uint_as_float(w & 0xffff0000u);
    }
    static __device__ __forceinline__ uint32_t join(const float (&x)[H]) {
        __nv_bfloat162 pair = __floats2bfloat162_rn(x[0], x[1]);
        return *reinterpret_cast<uint32_t*>(&pair);
    }
};
template <> struct Word<f16> {
    static constexpr int H = 2;
    using U = uint16_t;
    static __device__ __forceinline__ void split(uint32_t w, float (&x)[H]) {
        float2 pair = __half22float2(*reinterpret_cast<__half2*>(&w));
        x[0] = pair.x, x[1] = pair.y;
    }
    static __device__ __forceinline__ uint32_t join(const float (&x)[H]) {
        __half2 pair = __floats2half2_rn(x[0], x[1]);
        return *reinterpret_cast<uint32_t*>(&pair);
    }
};

struct DeltaFactors {
    const uint4* left;
    const uint4* right;
    long long left_stride;  // in uint4, from slice to slice
    long long right_stride;
    int slices;
};

// The same number, of which the compiler knows nothing: what follows from it is computed again instead of being kept in the
// registers that Δ needs.
__device__ __forceinline__ int hidden(int x) {
    asm volatile("" : "+r"(x));
    return x;
}

// A block's tile and a thread's part of it: 16 bytes from `column` on of eight rows.
template <typename T> struct DeltaTile {
    using U = typename Word<T>::U;
    static constexpr int N = Pack<T>::N;                         // columns of a lane
    static constexpr int Columns = DeltaRowBytes / sizeof(U);  // of the tile

    int row, left, rows, columns;  // of the tile within the matrix, and its extents
    int first, column;             // of the thread within the tile
    long long stride;
    U* corner;  // the tile's first element
    bool fast;  // 16-byte pieces are aligned, and there as a whole or not at all

    __device__ __forceinline__ DeltaTile(
        const void* matrix, long long matrix_stride, int matrix_rows, int matrix_columns, int tiles_across, int tile, bool vectors) {
        const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
        row = tile / tiles_across * DeltaRows;
        left = tile % tiles_across * Columns;
        rows = min(DeltaRows, matrix_rows - row);
        columns = min(Columns, matrix_columns - left);
        first = warp / 2 * 32 + lane % 4 * 4;
        column = warp % 2 * (8 * N) + lane / 4 * N;
        stride = matrix_stride;
        corner = (U*)matrix + row * stride + left;
        fast = vectors && columns % N == 0;
    }

    // The row in the tile of the thread's piece i.
    __device__ __forceinline__ int row_of(int i) const { return first + i / 4 * 16 + i % 4; }

    // How many elements piece i has; 0 or less: none.
    __device__ __forceinline__ int valid(int i) const { return row_of(i) < rows ? columns - column : 0; }

    __device__ __forceinline__ U* at(int i) const { return corner + row_of(i) * stride + column; }

    // The thread's slots in shared memory, of which piece i has number i·DeltaThreads. A warp has 512 bytes for a number, 128 for each
    // of its four rows, in which lanes are shuffled: neither rows that arrive nor a quarter of a warp that reads, two neighbouring
    // lanes of every row, meet in a bank.
    template <typename P> static __device__ __forceinline__ P* slots(P* pieces) {
        const int thread = hidden(threadIdx.x), lane = thread % 32, t = lane % 4;
        return pieces + (thread - lane + 8 * t + (lane / 4 ^ 2 * t));
    }

    // Begins to copy the thread's first pieces to their slots, zeros where the matrix has none.
    template <int Count = DeltaPieces> __device__ __forceinline__ void fetch(uint4* pieces) const {
        uint4* own = slots(pieces);
        if (fast) {
#pragma unroll
            for (int i = 0; i < Count; i++) {
                bool exists = valid(i) > 0;
                copy_async_16(own + i * DeltaThreads, exists ? at(i) : corner, exists);
            }
            return;
        }
#pragma unroll 1
        for (int i = 0; i < Count; i++) {
            int count = valid(i);
            const U* from = at(i);
            U* to = (U*)(own + i * DeltaThreads);
#pragma unroll
            for (int n = 0; n < N; n++) to[n] = n < count ? from[n] : (U)0;
        }
    }
};

// Shared memory where a block has a tile: a slice of the widest tile's factors, later what a pass puts in their place, which has
// room for a tile; W's pieces.
constexpr int DeltaFactorQuads = DeltaTileQuads, DeltaSharedQuads = DeltaFactorQuads + DeltaTileQuads;
static_assert(DeltaRows * DeltaItemQuads % DeltaThreads == 0, "no thread is without a part");
static_assert((DeltaRows + DeltaTile<bf16>::Columns) * DeltaItemQuads <= DeltaFactorQuads, "the factors have room");

// Begins to copy what a tile, its first row and column and its width, needs of a slice: the left factor's units, behind them the
// right one's.
__device__ __forceinline__ void delta_fetch(const DeltaFactors& f, int row, int column, int columns, int slice, uint4* to) {
    constexpr int Left = DeltaRows * DeltaItemQuads, Right = DeltaTile<bf16>::Columns * DeltaItemQuads;
    const int thread = hidden(threadIdx.x), count = columns * DeltaItemQuads;
    const uint4* left = f.left + slice * f.left_stride + row * DeltaItemQuads + thread;
    const uint4* right = f.right + slice * f.right_stride + column * DeltaItemQuads + thread;
    to += thread;
#pragma unroll
    for (int i = 0; i < Left; i += DeltaThreads) copy_async_16(to + i, left + i, true);
#pragma unroll
    for (int i = 0; i < Right; i += DeltaThreads)
        if (i + DeltaThreads <= count || i + thread < count) copy_async_16(to + Left + i, right + i, true);
}

// Adds the products of a unit of the right factor, the lane's columns 2·j and 2·j + 1, with units of the left one, four rows each.
template <int Units, int N>
__device__ __forceinline__ void delta_multiply_unit(
    const uint4 (&left)[Units][3], const uint32_t (&right)[3][4], int j, float (&delta)[4 * Units][N]) {
    constexpr int Parts[6][2] = {{2, 0}, {0, 2}, {1, 1}, {1, 0}, {0, 1}, {0, 0}};
    float even[Units][4] = {}, odd[Units][4] = {};
#pragma unroll
    for (int k = 0; k < 6; k++)
#pragma unroll
        for (int u = 0; u < Units; u++) {
            const uint4& part = left[u][Parts[k][0]];
            mma<bf16>(even[u], right[Parts[k][1]], part.x, part.y);
            mma<bf16>(odd[u], right[Parts[k][1]], part.z, part.w);
        }
#pragma unroll
    for (int i = 0; i < 4 * Units; i++) {
        const int u = i / 4, c = i % 4, column = 2 * j + c / 2, row = 4 * u + c % 2 * 2;
        delta[row][column] = __fadd_rn(delta[row][column], even[u][c]);
        delta[row + 1][column] = __fadd_rn(delta[row + 1][column], odd[u][c]);
    }
}

// Adds the product of a slice.
template <typename T>
__device__ __forceinline__ void delta_multiply(const uint4* factors, float (&delta)[DeltaPieces][DeltaTile<T>::N]) {
    const int thread = hidden(threadIdx.x), warp = thread / 32;
    const uint4* left = factors + thread % 32 + warp / 2 * (2 * DeltaUnitQuads);
    const uint4* right = factors + thread % 32 + DeltaRows * DeltaItemQuads + warp % 2 * (DeltaTile<T>::N / 2 * DeltaUnitQuads);
    uint4 l[2][3];
#pragma unroll
    for (int i = 0; i < 6; i++) l[i / 3][i % 3] = left[i / 3 * DeltaUnitQuads + i % 3 * 32];
#pragma unroll
    for (int j = 0; j < DeltaTile<T>::N / 2; j++) {
        uint32_t r[3][4];
#pragma unroll
        for (int p = 0; p < 3; p++) {
            const uint4 v = right[j * DeltaUnitQuads + 32 * p];
            r[p][0] = v.x, r[p][1] = v.y, r[p][2] = v.z, r[p][3] = v.w;
        }
        delta_multiply_unit(l, r, j, delta);
    }
}

// Δ of the thread's pieces, and W's pieces in their slots of `pieces`, which are on their way while Δ is formed. `tile` gives the
// DeltaTile, as often as it is needed: registers are scarce. `shared` has DeltaFactorQuads; synchronise before using it for something
// else.
template <typename T, typename Tile>
__device__ __forceinline__ void delta_tile(
    const DeltaFactors& f, const Tile& tile, uint4* shared, uint4* pieces, float (&delta)[DeltaPieces][DeltaTile<T>::N]) {
    {
        const DeltaTile<T> t = tile();
        if (f.slices > 0) delta_fetch(f, t.row, t.left, DeltaTile<T>::Columns, 0, shared);
        commit_copies();
        t.fetch(pieces);
        commit_copies();
    }
#pragma unroll
    for (int i = 0; i < DeltaPieces; i++)
#pragma unroll
        for (int n = 0; n < DeltaTile<T>::N; n++) delta[i][n] = 0;
#pragma unroll 1
    for (int slice = 0; slice < f.slices; slice++) {
        if (slice == 0) {
            // W need not have arrived.
            wait_for_groups<1>();
        } else {
            // The next slice takes the place of the one before when all are done with it; the other block computes meanwhile.
            __syncthreads();
            const DeltaTile<T> t = tile();
            delta_fetch(f, t.row, t.left, DeltaTile<T>::Columns, slice, shared);
            commit_copies();
            wait_for_copies();
        }
        __syncthreads();
        delta_multiply<T>(shared, delta);
    }
    wait_for_copies();
}

// One adapter's A [rank, inputs] and B [outputs, rank]: A as it is and scale·B, rounded to f32, split and packed.
struct DeltaPackParams {
    const void* a;
    const void* b;
    uint4* packed_a;
    uint4* packed_b;
    long long a_stride;
    long long b_stride;
    int a_type;
    int b_type;
    int rank;
    int inputs;
    int outputs;
    float scale;
    int a_run;        // neighbours that a lane has: 8 or 4 of W's columns, by its dtype, 2 of its rows
    int b_run;
    int a_blocks;     // blocks that pack A; the rest packs B
    int first_block;  // in a launch for several adapters
};

// Number c % 2 of word `lane` of unit u is this one of 128 rows or columns: a lane's run lies in run / 2 neighbouring units.
__device__ __forceinline__ int delta_item(int run, int unit, int lane) {
    return unit / (run / 2) * (8 * run) + lane / 4 * run + unit % (run / 2) * 2;
}

__device__ __forceinline__ float delta_load(const void* p, long long i, int code) {
    return code == F64 ? (float)((const double*)p)[i] : load_any(p, i, code);
}

// The leading bf16 of x, which is left with the rest. What would round up to infinity is cut off.
__device__ __forceinline__ uint32_t delta_split(float& x) {
    bf16 part = __float2bfloat16_rn(x);
    if (isinf(__bfloat162float(part))) part = __ushort_as_bfloat16((unsigned short)(__float_as_uint(x) >> 16));
    x -= __bfloat162float(part);
    return __bfloat16_as_ushort(part);
}

// 256 threads: 16 ranks of 128 rows or columns, a unit a warp.
__device__ __forceinline__ void delta_pack(const DeltaPackParams& p) {
    constexpr int Part = 128;
    __shared__ float tile[DeltaDepth][Part + 1];
    int block = (int)blockIdx.x - p.first_block;
    const bool is_a = block < p.a_blocks;
    if (!is_a) block -= p.a_blocks;
    const int extent = is_a ? p.inputs : p.outputs, across = (extent + Part - 1) / Part;
    const int k0 = block / across * DeltaDepth, c0 = block % across * Part;
#pragma unroll 4
    for (int i = threadIdx.x; i < DeltaDepth * Part; i += DeltaThreads) {
        // Neighbouring threads read neighbours in memory.
        const int k = is_a ? i / Part : i % DeltaDepth, c = is_a ? i % Part : i / DeltaDepth;
        float x = 0;
        if (k0 + k < p.rank && c0 + c < extent)
            x = is_a ? delta_load(p.a, (k0 + k) * p.a_stride + c0 + c, p.a_type)
                     : __fmul_rn(delta_load(p.b, (c0 + c) * p.b_stride + k0 + k, p.b_type), p.scale);
        tile[k][c] = x;
    }
    __syncthreads();
    const int lane = threadIdx.x % 32, unit = threadIdx.x / 32, run = is_a ? p.a_run : p.b_run, c = delta_item(run, unit, lane);
    uint32_t words[3][4];
#pragma unroll
    for (int w = 0; w < 4; w++) {
        // The pairs of ranks from 2t and from 2t + 8 on, of one column and of its neighbour; of rows first the one's pairs, then the
        // other's, which are two operands.
        const int other = run == 2 ? w / 2 : w % 2, k = lane % 4 * 2 + (run == 2 ? w % 2 : w / 2) * 8;
        float low = tile[k][c + other], high = tile[k + 1][c + other];
#pragma unroll
        for (int part = 0; part < 3; part++) {
            words[part][w] = delta_split(low);
            words[part][w] |= delta_split(high) << 16;
        }
    }
    uint4* to = (is_a ? p.packed_a : p.packed_b) + (long long)block * (Part * DeltaItemQuads) + unit * DeltaUnitQuads + lane;
#pragma unroll
    for (int part = 0; part < 3; part++) to[32 * part] = make_uint4(words[part][0], words[part][1], words[part][2], words[part][3]);
}
