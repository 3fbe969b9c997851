using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// The matrix product on the CPU, on pointers: C = alpha · op(A) · op(B) + beta · C, row-major, in fp32 or fp64, also with
/// operands and result stored as bf16 or f16 (computed in fp32).
/// </summary>
/// <remarks>
/// op(A) is [m, k], op(B) is [k, n], C is [m, n]; op transposes when its flag is set. So A is stored as [m, k], or as
/// [k, m] with <c>transA</c>; B as [k, n], or as [n, k] with <c>transB</c>. <c>lda</c>, <c>ldb</c>, <c>ldc</c> are the distances
/// between stored rows, in elements, at least the length of a row. With beta = 0, C is written without being read; with
/// k = 0 or alpha = 0, A and B are not read. C must not overlap A or B. Runs on <see cref="Cpu.CpuParallel"/>; the result's
/// bits do not depend on the thread count. A warm call allocates nothing.
/// <para>
/// Error: each element is a sum of k fused multiply-adds, cut into at most k ⁄ 128 + 25 partial sums, so
/// |ĉ − c| ≤ γ(k + 34 + k ⁄ 128) · (|alpha| Σ|a||b| + |beta||c₀|), γ(n) = n·u ⁄ (1 − n·u) (Higham, "Accuracy and Stability of
/// Numerical Algorithms", §3.1), plus one rounding to the storage type of C.
/// </para>
/// </remarks>
public static unsafe class CpuGemm
{
    private static int s_vectorBits = MaxVectorBits;

    /// <summary>Width of the widest kernels this machine can run: 512 (AVX-512), 256 (AVX2 with FMA) or 128 bits.</summary>
    public static int MaxVectorBits =>
        Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated && Fma.IsSupported ? 256 : 128;

    /// <summary>Width of the kernels in use; <see cref="MaxVectorBits"/> unless set lower to test or to compare.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Not 128, 256 or 512, or above <see cref="MaxVectorBits"/>.</exception>
    public static int VectorBits
    {
        get => s_vectorBits;
        set
        {
            if (value is not (128 or 256 or 512) || value > MaxVectorBits)
            {
                throw new ArgumentOutOfRangeException(nameof(value), value, $"128, 256 or 512, at most {MaxVectorBits} on this machine");
            }

            s_vectorBits = value;
        }
    }

    /// <summary>C = alpha · op(A) · op(B) + beta · C in <typeparamref name="T"/>.</summary>
    /// <typeparam name="T">float or double.</typeparam>
    /// <exception cref="ArgumentOutOfRangeException">A negative size, or a row stride shorter than a row.</exception>
    /// <exception cref="ArgumentException"><typeparamref name="T"/> is neither float nor double.</exception>
    public static void Run<T>(bool transA, bool transB, int m, int n, int k, T alpha, T* a, long lda, T* b, long ldb, T beta, T* c, long ldc)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        RunBatched(1, transA, transB, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc, 0);

    /// <summary>
    /// The product for each of <paramref name="batch"/> items; item <c>i</c>'s matrices begin <c>i · stride</c> elements
    /// after the first's. A stride of 0 for A or B shares it among the items; items of C must not overlap.
    /// </summary>
    /// <typeparam name="T">float or double.</typeparam>
    /// <exception cref="ArgumentOutOfRangeException">A negative size, or a row stride shorter than a row.</exception>
    /// <exception cref="ArgumentException"><typeparamref name="T"/> is neither float nor double.</exception>
    public static void RunBatched<T>(
        int batch, bool transA, bool transB, int m, int n, int k, T alpha, T* a, long lda, long strideA, T* b, long ldb, long strideB, T beta, T* c, long ldc, long strideC)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        DType type = DType.F32;
        if (typeof(T) == typeof(double))
        {
            type = DType.F64;
        }
        else if (typeof(T) != typeof(float))
        {
            throw new ArgumentException($"the matrix product computes in float or double, not in {typeof(T)}");
        }

        Execute(
            batch, m, n, k, alpha, new GemmMatrix(a, type, transA, lda, strideA), new GemmMatrix(b, type, transB, ldb, strideB), beta, new GemmMatrix(c, type, false, ldc, strideC));
    }

    /// <summary>
    /// C = alpha · op(A) · op(B) + beta · C in fp32, with each matrix stored as <see cref="DType.F32"/>,
    /// <see cref="DType.BF16"/> or <see cref="DType.F16"/>. The result is rounded once, to nearest, ties to even.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">A negative size, or a row stride shorter than a row.</exception>
    /// <exception cref="ArgumentException">A storage type other than the three.</exception>
    public static void RunMixed(
        bool transA, bool transB, int m, int n, int k, float alpha, DType typeA, void* a, long lda, DType typeB, void* b, long ldb, float beta, DType typeC, void* c, long ldc) =>
        RunMixedBatched(1, transA, transB, m, n, k, alpha, typeA, a, lda, 0, typeB, b, ldb, 0, beta, typeC, c, ldc, 0);

    /// <summary>
    /// <see cref="RunMixed"/> for each of <paramref name="batch"/> items; strides as in <see cref="RunBatched{T}"/>, in elements.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">A negative size, or a row stride shorter than a row.</exception>
    /// <exception cref="ArgumentException">A storage type other than the three.</exception>
    public static void RunMixedBatched(
        int batch, bool transA, bool transB, int m, int n, int k, float alpha, DType typeA, void* a, long lda, long strideA, DType typeB, void* b, long ldb, long strideB, float beta, DType typeC, void* c, long ldc, long strideC)
    {
        CheckStorage(typeA, nameof(typeA));
        CheckStorage(typeB, nameof(typeB));
        CheckStorage(typeC, nameof(typeC));
        Execute(
            batch, m, n, k, alpha, new GemmMatrix(a, typeA, transA, lda, strideA), new GemmMatrix(b, typeB, transB, ldb, strideB), beta, new GemmMatrix(c, typeC, false, ldc, strideC));
    }

    private static void Execute<T>(int batch, int m, int n, int k, T alpha, GemmMatrix a, GemmMatrix b, T beta, GemmMatrix c)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentOutOfRangeException.ThrowIfNegative(batch);
        ArgumentOutOfRangeException.ThrowIfNegative(m);
        ArgumentOutOfRangeException.ThrowIfNegative(n);
        ArgumentOutOfRangeException.ThrowIfNegative(k);
        ArgumentOutOfRangeException.ThrowIfLessThan(a.Stride, a.Transposed ? m : k, "lda");
        ArgumentOutOfRangeException.ThrowIfLessThan(b.Stride, b.Transposed ? k : n, "ldb");
        ArgumentOutOfRangeException.ThrowIfLessThan(c.Stride, n, "ldc");
        if (batch == 0 || m == 0 || n == 0)
        {
            return;
        }

        var call = new GemmCall<T> { Batch = batch, M = m, N = n, K = k, LastK = k, Alpha = alpha, Beta = beta, A = a, B = b, C = c };
        if (k == 0 || alpha == T.Zero)
        {
            CpuGemmOutput.Scale(ref call);
        }
        else if (typeof(T) == typeof(double))
        {
            ref GemmCall<double> wide = ref Unsafe.As<GemmCall<T>, GemmCall<double>>(ref call);
            switch (s_vectorBits)
            {
                case 512:
                    CpuGemmPaths<double, Vector512<double>, Simd512F64>.Run(ref wide);
                    break;
                case 256:
                    CpuGemmPaths<double, Vector256<double>, Simd256F64>.Run(ref wide);
                    break;
                default:
                    CpuGemmPaths<double, Vector128<double>, Simd128F64>.Run(ref wide);
                    break;
            }
        }
        else
        {
            ref GemmCall<float> single = ref Unsafe.As<GemmCall<T>, GemmCall<float>>(ref call);
            switch (s_vectorBits)
            {
                case 512:
                    CpuGemmPaths<float, Vector512<float>, Simd512F32>.Run(ref single);
                    break;
                case 256:
                    CpuGemmPaths<float, Vector256<float>, Simd256F32>.Run(ref single);
                    break;
                default:
                    CpuGemmPaths<float, Vector128<float>, Simd128F32>.Run(ref single);
                    break;
            }
        }
    }

    private static void CheckStorage(DType type, string name)
    {
        if (type is not (DType.F32 or DType.BF16 or DType.F16))
        {
            throw new ArgumentException($"{name} is {type.Name()}; the matrix product with fp32 accumulation takes f32, bf16 and f16", name);
        }
    }
}
