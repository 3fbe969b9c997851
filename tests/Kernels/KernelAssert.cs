using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>What every op's test asserts.</summary>
internal static class KernelAssert
{
    /// <summary>The device's float dtypes, for <c>MemberData</c>.</summary>
    public static TheoryData<DType> FloatTypes => [.. TestDevice.FloatTypes];

    /// <summary>Each float dtype with each size, for <c>MemberData</c>.</summary>
    public static TheoryData<DType, int> FloatTypesWith(params int[] sizes)
    {
        var data = new TheoryData<DType, int>();
        foreach (DType dtype in TestDevice.FloatTypes)
        {
            foreach (int size in sizes)
            {
                data.Add(dtype, size);
            }
        }

        return data;
    }

    /// <summary>
    /// Every element is within the case's bound of the exact value, and nothing around the tensor was written.
    /// <paramref name="magnitude"/> holds the bound's S for each element; without it S is |exact|.
    /// For f64 twice the bound is allowed: the test's own reference is computed in f64 and may be as far off.
    /// </summary>
    public static void Close(OpCase op, ReadOnlySpan<double> exact, GuardedTensor actual, double[]? magnitude = null) =>
        Close(op.Error(actual.Tensor.DType), op.Name, exact, actual, magnitude);

    /// <inheritdoc cref="Close(OpCase, ReadOnlySpan{double}, GuardedTensor, double[])"/>
    public static void Close(ErrorBound bound, string name, ReadOnlySpan<double> exact, GuardedTensor actual, double[]? magnitude = null)
    {
        actual.AssertGuards();
        double[] values = actual.ToDoubles();
        Assert.Equal(exact.Length, values.Length);
        for (int i = 0; i < values.Length; i++)
        {
            double allowed = bound.Allowed(exact[i], magnitude is null ? 0 : magnitude[i]) * (actual.Tensor.DType == DType.F64 ? 2 : 1);
            double error = Math.Abs(values[i] - exact[i]);

            // Written so that NaN fails.
            if (!(error <= allowed))
            {
                Assert.Fail($"{name} {actual.Tensor}: element {i} is {values[i]:R}, exact {exact[i]:R}, off by {error:E3}, allowed {allowed:E3}");
            }
        }
    }

    /// <summary>
    /// <paramref name="run"/> makes its tensors and returns the outputs; their bits are the same with 1, 2 and 5 threads, or,
    /// on a GPU, each of three times. For tests in the collection <c>CpuParallel</c>, which run beside no other.
    /// </summary>
    public static void SameBitsForEveryThreadCount(Func<GuardedTensor[]> run)
    {
        if (TestDevice.IsCuda)
        {
            List<byte[]> first = Run(run);
            AssertSame(first, Run(run), "the second time");
            AssertSame(first, Run(run), "the third time");
            return;
        }

        int before = CpuParallel.ThreadCount;
        try
        {
            CpuParallel.ThreadCount = 1;
            List<byte[]> expected = Run(run);
            foreach (int threads in new[] { 2, 5 })
            {
                CpuParallel.ThreadCount = threads;
                AssertSame(expected, Run(run), $"with {threads} threads");
            }
        }
        finally
        {
            CpuParallel.ThreadCount = before;
        }
    }

    private static void AssertSame(List<byte[]> expected, List<byte[]> actual, string when)
    {
        Assert.Equal(expected.Count, actual.Count);
        for (int i = 0; i < actual.Count; i++)
        {
            Assert.True(expected[i].AsSpan().SequenceEqual(actual[i]), $"output {i} differs {when}");
        }
    }

    private static List<byte[]> Run(Func<GuardedTensor[]> run)
    {
        var bytes = new List<byte[]>();
        foreach (GuardedTensor tensor in run())
        {
            tensor.AssertGuards();
            bytes.Add(tensor.ToBytes());
            tensor.Dispose();
        }

        return bytes;
    }
}
