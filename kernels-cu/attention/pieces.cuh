// Runs of elements read as f32.
#pragma once
#include "params.cuh"

// Elements c to c + N − 1 of a row: zeros beyond the last. N elements are 16 bytes.
template <typename T>
__device__ __forceinline__ void load_piece(const T* row, int c, int columns, bool vectors, float (&x)[Pack<T>::N]) {
    if (vectors && c < columns) {
        Pack<T>::load(row + c, x);
        return;
    }
#pragma unroll
    for (int e = 0; e < Pack<T>::N; e++) x[e] = c + e < columns ? to_float(row[c + e]) : 0.0f;
}
