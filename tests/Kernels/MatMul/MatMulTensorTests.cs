using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>The tensor-level product: strides, batches, mixed dtypes and refusals; the arithmetic is CpuGemm's tests' matter.</summary>
public sealed class MatMulTensorTests
{
    [Theory]
    [InlineData(false, false, DType.F32, DType.F32)]
    [InlineData(true, false, DType.F32, DType.F32)]
    [InlineData(false, true, DType.BF16, DType.F32)]
    [DoubleData(true, true, DType.F64, DType.F64)]
    [InlineData(false, true, DType.F16, DType.BF16)]
    public void Gaps_between_rows_and_mixed_dtypes(bool transA, bool transB, DType typeA, DType typeB)
    {
        const int M = 9, N = 21, K = 34;
        var random = new RandomTensors(11);
        using GuardedTensor a = random.Normal(transA ? [K, M] : [M, K], typeA, rowGap: 5);
        using GuardedTensor b = random.Normal(transB ? [N, K] : [K, N], typeB, rowGap: 3);
        DType typeC = typeA == DType.F64 ? DType.F64 : DType.F32;
        using GuardedTensor c = GuardedTensor.Empty([M, N], typeC, rowGap: 7);
        Kernels.MatMul.Run(a, transA, b, transB, c, alpha: 0.5f);
        (double[] exact, double[] magnitude) = Product(a.ToDoubles(), transA, b.ToDoubles(), transB, M, N, K, 0.5);
        KernelAssert.Close(new MatMulCase(M, N, K, typeC), exact, c, magnitude);
    }

    [Fact]
    public void A_leading_dimension_is_a_batch()
    {
        const int M = 3, N = 5, K = 4;
        var random = new RandomTensors(12);
        using GuardedTensor a = random.Normal([2, M, K], DType.F32);
        using GuardedTensor b = random.Normal([2, K, N], DType.F32);
        using GuardedTensor c = GuardedTensor.Empty([2, M, N], DType.F32);
        Kernels.MatMul.Run(a, false, b, false, c);
        double[] av = a.ToDoubles();
        double[] bv = b.ToDoubles();
        (double[] first, double[] m1) = Product(av[..(M * K)], false, bv[..(K * N)], false, M, N, K, 1);
        (double[] second, double[] m2) = Product(av[(M * K)..], false, bv[(K * N)..], false, M, N, K, 1);
        KernelAssert.Close(new MatMulCase(M, N, K, DType.F32), [.. first, .. second], c, [.. m1, .. m2]);
    }

    /// <summary>As an output head with an odd vocabulary: CUDA takes such products apart.</summary>
    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void Large_extents_that_are_no_multiples_of_eight(DType dtype)
    {
        const int R = 5, V = 2051, D = 24;
        var random = new RandomTensors(13);
        using GuardedTensor x = random.Normal([R, D], dtype);
        using GuardedTensor w = random.Normal([V, D], dtype);
        using GuardedTensor y = GuardedTensor.Empty([R, V], dtype, rowGap: 5);
        Kernels.MatMul.Run(x, false, w, true, y);
        (double[] exact, double[] magnitude) = Product(x.ToDoubles(), false, w.ToDoubles(), true, R, V, D, 1);
        KernelAssert.Close(new MatMulCase(R, V, D, dtype), exact, y, magnitude);

        using GuardedTensor dx = GuardedTensor.Empty([R, D], dtype);
        Kernels.MatMul.Run(y, false, w, false, dx);
        (exact, magnitude) = Product(y.ToDoubles(), false, w.ToDoubles(), false, R, D, V, 1);
        KernelAssert.Close(new MatMulCase(R, D, V, dtype), exact, dx, magnitude);
    }

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        using Tensor a = Tensor.Zeros([3, 4], DType.F32, TestDevice.Current);
        using Tensor b = Tensor.Zeros([5, 6], DType.F32, TestDevice.Current);
        using Tensor c = Tensor.Zeros([3, 6], DType.F32, TestDevice.Current);
        using Tensor wide = Tensor.Zeros([4, 6], DType.F64, TestDevice.Current);
        using Tensor turned = Tensor.Zeros([4, 3], DType.F32, TestDevice.Current);
        using Tensor view = turned.Transpose(0, 1);
        Assert.Contains("b", Assert.Throws<ArgumentException>(() => Kernels.MatMul.Run(a, false, b, false, c)).ParamName);
        Assert.Throws<ArgumentException>(() => Kernels.MatMul.Run(a, false, wide, false, c));
        using Tensor good = Tensor.Zeros([4, 6], DType.F32, TestDevice.Current);
        Assert.Throws<ArgumentException>(() => Kernels.MatMul.Run(view, false, good, false, c));
        Assert.Throws<ArgumentException>(() => Kernels.MatMul.Run(a, false, good, false, turned));
    }

    private static (double[] Exact, double[] Magnitude) Product(
        double[] a, bool transA, double[] b, bool transB, int m, int n, int k, double alpha)
    {
        var exact = new double[m * n];
        var magnitude = new double[m * n];
        for (int i = 0; i < m; i++)
        {
            for (int j = 0; j < n; j++)
            {
                for (int t = 0; t < k; t++)
                {
                    double term = alpha * a[transA ? (t * m) + i : (i * k) + t] * b[transB ? (j * k) + t : (t * n) + j];
                    exact[(i * n) + j] += term;
                    magnitude[(i * n) + j] += Math.Abs(term);
                }
            }
        }

        return (exact, magnitude);
    }
}
