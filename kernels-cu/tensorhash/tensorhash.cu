// tensorhash_chunks — the 128-bit hash of each chunk of 64 KiB (TensorHash.Fold with seed 0) of all tensors of a table; the host
//   folds those of a tensor together
// Shapes: rows of row_bytes bytes, row_stride apart, taken as one sequence of `length` bytes; out [chunks, 2] u64, low first
// Dtypes: any, as bits; integer arithmetic.  Arch: sm_80+
// Bytes: length.  Bound: memory for large tensors, the chain of 1024 multiplications of a chunk for small ones
// Algorithm: 4 threads a chunk, one for each accumulator; 8 loads of 16 bytes are under way before they are folded
// Numerics: exact, the CPU's hash.  Aliasing: none
#include "../common/types.cuh"

using u64 = unsigned long long;

// Laid out as in TensorHashCuda.
struct HashEntry {
    const unsigned char* data;
    long long length;
    long long row_bytes;
    long long row_stride;
    long long first_chunk;  // in the numbering of all tensors' chunks
    int first_block;
    int vectors;  // nonzero: every piece of 16 bytes lies within a row, at a multiple of 16 bytes
};

static_assert(sizeof(HashEntry) == 48, "as in TensorHashCuda");

struct TensorHashParams {
    const HashEntry* entries;  // null: `only` is the one there is
    u64* out;
    HashEntry only;
    int count;
};

constexpr int ChunkBytes = 1 << 16, Ahead = 8;

__device__ __forceinline__ u64 mix(u64 a, u64 b) { return __umul64hi(a, b) ^ (a * b); }

// Where byte `at` of the sequence lies, for offsets that grow.
struct Cursor {
    const unsigned char* row;
    long long column;

    __device__ __forceinline__ void move(const HashEntry& p, long long bytes) {
        column += bytes;
        while (column >= p.row_bytes) {
            column -= p.row_bytes;
            row += p.row_stride;
        }
    }
};

// Up to 16 bytes, zeros after the end.
__device__ __forceinline__ ulonglong2 load_bytes(const HashEntry& p, Cursor at, int count) {
    u64 words[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 16; i++)
        if (i < count) {
            words[i / 8] |= (u64)at.row[at.column] << (8 * (i % 8));
            if (++at.column == p.row_bytes) {
                at.column = 0;
                at.row += p.row_stride;
            }
        }
    return make_ulonglong2(words[0], words[1]);
}

// The tensor that the block belongs to: the last one that begins at it or before.
__device__ __forceinline__ HashEntry entry_of(const TensorHashParams& params, int block) {
    HashEntry entry = params.only;
    if (params.entries) {
        int low = 0, high = params.count;
        while (high - low > 1) {
            int middle = (low + high) / 2;
            if (params.entries[middle].first_block <= block) low = middle;
            else high = middle;
        }
        entry = params.entries[low];
    }
    return entry;
}

ENGINE_PARAMS(tensorhash_chunks, TensorHashParams)
extern "C" __global__ void __launch_bounds__(32) tensorhash_chunks(const TensorHashParams params) {
    const u64 c0 = 0x6A09E667F3BCC909, c1 = 0xBB67AE8584CAA73B, c2 = 0x3C6EF372FE94F82B, c3 = 0xA54FF53A5F1D36F1;
    int lane = threadIdx.x, part = lane % 4;
    const HashEntry p = entry_of(params, blockIdx.x);
    long long chunk = (blockIdx.x - p.first_block) * 8ll + lane / 4, begin = chunk * ChunkBytes;
    int length = (int)max(0ll, min((long long)ChunkBytes, p.length - begin));
    u64 c = part == 0 ? c0 : part == 1 ? c1 : part == 2 ? c2 : c3;
    u64 h = part == 0 ? c1 : part == 1 ? c2 : part == 2 ? c3 : c0;
    if (16 * part < length) {
        long long first = begin + 16 * part, row = first / p.row_bytes;
        Cursor at = {p.data + row * p.row_stride, first - row * p.row_bytes};
        int done = 0;
        if (p.vectors)
            for (; done + 64 * Ahead <= length; done += 64 * Ahead) {
                ulonglong2 words[Ahead];
#pragma unroll
                for (int i = 0; i < Ahead; i++) {
                    words[i] = *reinterpret_cast<const ulonglong2*>(at.row + at.column);
                    // Not past the end: the last row may be the last memory there is, but only the address would be wrong.
                    at.move(p, 64);
                }
#pragma unroll
                for (int i = 0; i < Ahead; i++) h = mix(words[i].x ^ c, words[i].y ^ h);
            }
        // The last block of 64 bytes counts for all four accumulators, with zeros after the end.
        for (; done + 16 * part < length; done += 64) {
            ulonglong2 words = load_bytes(p, at, length - done - 16 * part);
            h = mix(words.x ^ c, words.y ^ h);
            if (done + 64 + 16 * part < length) at.move(p, 64);
        }
        if (done < length) h = mix(c, h);
    } else if (length > 0) {
        h = mix(c, h);
    }
    int base = lane & ~3;
    u64 h0 = __shfl_sync(0xffffffffu, h, base), h1 = __shfl_sync(0xffffffffu, h, base + 1);
    u64 h2 = __shfl_sync(0xffffffffu, h, base + 2), h3 = __shfl_sync(0xffffffffu, h, base + 3);
    if (part == 0 && length > 0) {
        params.out[2 * (p.first_chunk + chunk)] = mix(mix(h0 ^ c1, h1 ^ (u64)length), mix(h2 ^ c3, h3) ^ c2);
        params.out[2 * (p.first_chunk + chunk) + 1] = mix(mix(h2 ^ c0, h0 ^ (u64)length), mix(h3 ^ c2, h1) ^ c3);
    }
}
