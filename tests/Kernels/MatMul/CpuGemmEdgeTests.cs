using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests.MatMul;

/// <summary>Empty sizes, special values, arguments and allocation of the matrix product.</summary>
[Collection(nameof(CpuParallel))]
[Trait("Device", "Cpu")]
public sealed unsafe class CpuGemmEdgeTests
{
    [Theory]
    [InlineData(0, 5, 3)]
    [InlineData(5, 0, 3)]
    [InlineData(5, 7, 0)]
    [InlineData(0, 0, 0)]
    public void Empty_sizes(int m, int n, int k)
    {
        foreach (DType type in new[] { DType.F32, DType.F64, DType.BF16, DType.F16 })
        {
            DType input = type == DType.F64 ? DType.F64 : DType.F32;
            var test = new GemmCase(false, true, m, n, k, 1, 2, batch: 2, typeA: input, typeB: input, typeC: type);
            test.Check(1, 0);
            test.Check(1, 1);
            test.Check(1, -0.5);
        }
    }

    [Fact]
    public void Alpha_zero_reads_neither_operand()
    {
        float* c = stackalloc float[4] { 1, 2, 3, 4 };
        CpuGemm.Run(false, false, 2, 2, 3, 0f, null, 3, null, 2, 2f, c, 2);
        Assert.Equal([2f, 4f, 6f, 8f], new Span<float>(c, 4).ToArray());
    }

    [Theory]
    [InlineData(1)]
    [InlineData(13)]
    [InlineData(40)]
    public void A_nan_reaches_its_row_or_column_and_no_other(int m)
    {
        const int N = 37;
        const int K = 70;
        float[] a = new float[m * K];
        float[] b = new float[N * K];
        float[] c = new float[m * N];
        Array.Fill(a, 1f);
        Array.Fill(b, 2f);
        a[((m - 1) * K) + 3] = float.NaN;
        b[(5 * K) + 4] = float.PositiveInfinity;
        fixed (float* pa = a)
        fixed (float* pb = b)
        fixed (float* pc = c)
        {
            CpuGemm.Run(false, true, m, N, K, 1f, pa, K, pb, K, 0f, pc, N);
        }

        for (int i = 0; i < m; i++)
        {
            for (int j = 0; j < N; j++)
            {
                float expected = i == m - 1 ? float.NaN : j == 5 ? float.PositiveInfinity : 2 * K;
                Assert.Equal(expected, c[(i * N) + j]);
            }
        }
    }

    [Fact]
    public void A_warm_call_does_not_allocate()
    {
        float[] a = new float[200 * 200];
        float[] b = new float[200 * 200];
        float[] c = new float[200 * 200];
        fixed (float* pa = a)
        fixed (float* pb = b)
        fixed (float* pc = c)
        {
            All(pa, pb, pc);
            (nint x, nint y, nint z) = ((nint)pa, (nint)pb, (nint)pc);
            Assert.Equal(0, Allocated.By(() => All((float*)x, (float*)y, (float*)z)));
        }

        static void All(float* a, float* b, float* c)
        {
            CpuGemm.Run(false, false, 200, 200, 200, 1f, a, 200, b, 200, 0f, c, 200);
            CpuGemm.Run(false, true, 4, 200, 200, 1f, a, 200, b, 200, 1f, c, 200);
            CpuGemm.Run(true, false, 4, 4, 2000, 1f, a, 4, b, 4, 1f, c, 200);
            CpuGemm.RunMixed(false, true, 100, 100, 100, 1f, DType.BF16, a, 100, DType.F16, b, 100, 0f, DType.BF16, c, 100);
        }
    }

    [Fact]
    public void Bad_arguments_are_named()
    {
        float* p = stackalloc float[16];
        Assert.Equal("lda", Assert.Throws<ArgumentOutOfRangeException>(() => CpuGemm.Run(false, false, 2, 2, 3, 1f, p, 2, p, 2, 0f, p, 2)).ParamName);
        Assert.Equal("lda", Assert.Throws<ArgumentOutOfRangeException>(() => CpuGemm.Run(true, false, 2, 2, 3, 1f, p, 1, p, 2, 0f, p, 2)).ParamName);
        Assert.Equal("ldb", Assert.Throws<ArgumentOutOfRangeException>(() => CpuGemm.Run(false, true, 2, 2, 3, 1f, p, 3, p, 2, 0f, p, 2)).ParamName);
        Assert.Equal("ldc", Assert.Throws<ArgumentOutOfRangeException>(() => CpuGemm.Run(false, false, 2, 2, 3, 1f, p, 3, p, 2, 0f, p, 1)).ParamName);
        Assert.Equal("m", Assert.Throws<ArgumentOutOfRangeException>(() => CpuGemm.Run(false, false, -1, 2, 3, 1f, p, 3, p, 2, 0f, p, 2)).ParamName);
        Assert.Contains("i32", Assert.Throws<ArgumentException>(() => CpuGemm.RunMixed(false, false, 1, 1, 1, 1, DType.F32, p, 1, DType.I32, p, 1, 0, DType.F32, p, 1)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => CpuGemm.VectorBits = 64);
    }
}
