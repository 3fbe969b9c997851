using System.Runtime.Intrinsics;

namespace Engine.Kernels;

/// <summary>What the matrix kernels need of a vector of <typeparamref name="T"/>; one kernel source serves every width.</summary>
/// <typeparam name="TVector">The hardware vector type.</typeparam>
/// <typeparam name="T">float or double.</typeparam>
internal unsafe interface ICpuSimd<TVector, T>
    where TVector : unmanaged
    where T : unmanaged
{
    /// <summary>Elements in a vector.</summary>
    static abstract int Count { get; }

    /// <summary>Rows of the tallest micro-kernel: as many as the registers of this width hold beside two columns.</summary>
    static abstract int MaxRows { get; }

    /// <summary>Micro-kernels exist for each multiple of this number of rows up to <see cref="MaxRows"/>.</summary>
    static abstract int RowStep { get; }

    /// <summary>All elements zero.</summary>
    static abstract TVector Zero { get; }

    /// <summary>Unaligned load.</summary>
    static abstract TVector Load(T* source);

    /// <summary>Unaligned store.</summary>
    static abstract void Store(TVector value, T* destination);

    /// <summary>One value in every element.</summary>
    static abstract TVector Broadcast(T value);

    /// <summary>a · b + c.</summary>
    static abstract TVector Fma(TVector a, TVector b, TVector c);

    /// <summary>a · b.</summary>
    static abstract TVector Multiply(TVector a, TVector b);

    /// <summary>a + b.</summary>
    static abstract TVector Add(TVector a, TVector b);

    /// <summary>Stores the sums of the elements of four vectors, each in an order fixed by the width.</summary>
    static abstract void Sum4(TVector a, TVector b, TVector c, TVector d, T* sums);
}

/// <summary>AVX-512: 32 registers hold 12 × 2 accumulators, 2 columns and a broadcast.</summary>
internal readonly unsafe struct Simd512F32 : ICpuSimd<Vector512<float>, float>
{
    public static int Count => Vector512<float>.Count;

    public static int MaxRows => 12;

    public static int RowStep => 4;

    public static Vector512<float> Zero => Vector512<float>.Zero;

    public static Vector512<float> Load(float* source) => Vector512.Load(source);

    public static void Store(Vector512<float> value, float* destination) => value.Store(destination);

    public static Vector512<float> Broadcast(float value) => Vector512.Create(value);

    public static Vector512<float> Fma(Vector512<float> a, Vector512<float> b, Vector512<float> c) => Vector512.FusedMultiplyAdd(a, b, c);

    public static Vector512<float> Multiply(Vector512<float> a, Vector512<float> b) => a * b;

    public static Vector512<float> Add(Vector512<float> a, Vector512<float> b) => a + b;

    public static void Sum4(Vector512<float> a, Vector512<float> b, Vector512<float> c, Vector512<float> d, float* sums) =>
        Simd256F32.Sum4(Fold(a), Fold(b), Fold(c), Fold(d), sums);

    private static Vector256<float> Fold(Vector512<float> value) => value.GetLower() + value.GetUpper();
}

/// <summary>AVX-512: 32 registers hold 12 × 2 accumulators, 2 columns and a broadcast.</summary>
internal readonly unsafe struct Simd512F64 : ICpuSimd<Vector512<double>, double>
{
    public static int Count => Vector512<double>.Count;

    public static int MaxRows => 12;

    public static int RowStep => 4;

    public static Vector512<double> Zero => Vector512<double>.Zero;

    public static Vector512<double> Load(double* source) => Vector512.Load(source);

    public static void Store(Vector512<double> value, double* destination) => value.Store(destination);

    public static Vector512<double> Broadcast(double value) => Vector512.Create(value);

    public static Vector512<double> Fma(Vector512<double> a, Vector512<double> b, Vector512<double> c) => Vector512.FusedMultiplyAdd(a, b, c);

    public static Vector512<double> Multiply(Vector512<double> a, Vector512<double> b) => a * b;

    public static Vector512<double> Add(Vector512<double> a, Vector512<double> b) => a + b;

    public static void Sum4(Vector512<double> a, Vector512<double> b, Vector512<double> c, Vector512<double> d, double* sums)
    {
        sums[0] = Vector512.Sum(a);
        sums[1] = Vector512.Sum(b);
        sums[2] = Vector512.Sum(c);
        sums[3] = Vector512.Sum(d);
    }
}

/// <summary>AVX2 with FMA: 16 registers hold 6 × 2 accumulators, 2 columns and a broadcast.</summary>
internal readonly unsafe struct Simd256F32 : ICpuSimd<Vector256<float>, float>
{
    public static int Count => Vector256<float>.Count;

    public static int MaxRows => 6;

    public static int RowStep => 2;

    public static Vector256<float> Zero => Vector256<float>.Zero;

    public static Vector256<float> Load(float* source) => Vector256.Load(source);

    public static void Store(Vector256<float> value, float* destination) => value.Store(destination);

    public static Vector256<float> Broadcast(float value) => Vector256.Create(value);

    public static Vector256<float> Fma(Vector256<float> a, Vector256<float> b, Vector256<float> c) => Vector256.FusedMultiplyAdd(a, b, c);

    public static Vector256<float> Multiply(Vector256<float> a, Vector256<float> b) => a * b;

    public static Vector256<float> Add(Vector256<float> a, Vector256<float> b) => a + b;

    public static void Sum4(Vector256<float> a, Vector256<float> b, Vector256<float> c, Vector256<float> d, float* sums) =>
        CpuInterleave.Sum4(Fold(a), Fold(b), Fold(c), Fold(d), sums);

    private static Vector128<float> Fold(Vector256<float> value) => value.GetLower() + value.GetUpper();
}

/// <summary>AVX2 with FMA: 16 registers hold 6 × 2 accumulators, 2 columns and a broadcast.</summary>
internal readonly unsafe struct Simd256F64 : ICpuSimd<Vector256<double>, double>
{
    public static int Count => Vector256<double>.Count;

    public static int MaxRows => 6;

    public static int RowStep => 2;

    public static Vector256<double> Zero => Vector256<double>.Zero;

    public static Vector256<double> Load(double* source) => Vector256.Load(source);

    public static void Store(Vector256<double> value, double* destination) => value.Store(destination);

    public static Vector256<double> Broadcast(double value) => Vector256.Create(value);

    public static Vector256<double> Fma(Vector256<double> a, Vector256<double> b, Vector256<double> c) => Vector256.FusedMultiplyAdd(a, b, c);

    public static Vector256<double> Multiply(Vector256<double> a, Vector256<double> b) => a * b;

    public static Vector256<double> Add(Vector256<double> a, Vector256<double> b) => a + b;

    public static void Sum4(Vector256<double> a, Vector256<double> b, Vector256<double> c, Vector256<double> d, double* sums)
    {
        sums[0] = Vector256.Sum(a);
        sums[1] = Vector256.Sum(b);
        sums[2] = Vector256.Sum(c);
        sums[3] = Vector256.Sum(d);
    }
}

/// <summary>The fallback: SSE or NEON; fused only where the hardware fuses.</summary>
internal readonly unsafe struct Simd128F32 : ICpuSimd<Vector128<float>, float>
{
    public static int Count => Vector128<float>.Count;

    public static int MaxRows => 6;

    public static int RowStep => 2;

    public static Vector128<float> Zero => Vector128<float>.Zero;

    public static Vector128<float> Load(float* source) => Vector128.Load(source);

    public static void Store(Vector128<float> value, float* destination) => value.Store(destination);

    public static Vector128<float> Broadcast(float value) => Vector128.Create(value);

    public static Vector128<float> Fma(Vector128<float> a, Vector128<float> b, Vector128<float> c) => Vector128.MultiplyAddEstimate(a, b, c);

    public static Vector128<float> Multiply(Vector128<float> a, Vector128<float> b) => a * b;

    public static Vector128<float> Add(Vector128<float> a, Vector128<float> b) => a + b;

    public static void Sum4(Vector128<float> a, Vector128<float> b, Vector128<float> c, Vector128<float> d, float* sums) => CpuInterleave.Sum4(a, b, c, d, sums);
}

/// <summary>The fallback: SSE or NEON; fused only where the hardware fuses.</summary>
internal readonly unsafe struct Simd128F64 : ICpuSimd<Vector128<double>, double>
{
    public static int Count => Vector128<double>.Count;

    public static int MaxRows => 6;

    public static int RowStep => 2;

    public static Vector128<double> Zero => Vector128<double>.Zero;

    public static Vector128<double> Load(double* source) => Vector128.Load(source);

    public static void Store(Vector128<double> value, double* destination) => value.Store(destination);

    public static Vector128<double> Broadcast(double value) => Vector128.Create(value);

    public static Vector128<double> Fma(Vector128<double> a, Vector128<double> b, Vector128<double> c) => Vector128.MultiplyAddEstimate(a, b, c);

    public static Vector128<double> Multiply(Vector128<double> a, Vector128<double> b) => a * b;

    public static Vector128<double> Add(Vector128<double> a, Vector128<double> b) => a + b;

    public static void Sum4(Vector128<double> a, Vector128<double> b, Vector128<double> c, Vector128<double> d, double* sums)
    {
        sums[0] = Vector128.Sum(a);
        sums[1] = Vector128.Sum(b);
        sums[2] = Vector128.Sum(c);
        sums[3] = Vector128.Sum(d);
    }
}
