using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>Ops on matrices with gaps between their rows have the bits they have without, and leave the gaps alone.</summary>
[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class RowGapTests
{
    private const int Rows = 37;

    /// <summary>Dtype, columns, gap; a gap of 8 keeps rows aligned to 16 bytes.</summary>
    public static TheoryData<DType, int, int> Cases
    {
        get
        {
            var data = new TheoryData<DType, int, int>();
            foreach (DType dtype in KernelAssert.FloatTypes)
            {
                data.Add(dtype, 48, 8);
                data.Add(dtype, 300, 4);
                data.Add(dtype, 5, 3);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Elementwise_ops(DType dtype, int columns, int gap)
    {
        Same(dtype, columns, gap, 2, 1, t => SwiGlu.Forward(t[0], t[1], t[2]));
        Same(dtype, columns, gap, 3, 2, t => SwiGlu.Backward(t[0], t[1], t[2], t[3], t[4]));
        foreach (bool tanh in new[] { false, true })
        {
            Same(dtype, columns, gap, 1, 1, t => Gelu.Forward(t[0], tanh, t[1]));
            Same(dtype, columns, gap, 2, 1, t => Gelu.Backward(t[0], t[1], tanh, t[2]));
        }

        Same(dtype, columns, gap, 1, 1, t => Silu.Forward(t[0], t[1]));
        Same(dtype, columns, gap, 2, 1, t => Silu.Backward(t[0], t[1], t[2]));
        Same(dtype, columns, gap, 2, 1, t => Elementwise.Add(t[0], t[1], t[2]));
        Same(dtype, columns, gap, 2, 1, t => Elementwise.Multiply(t[0], t[1], t[2]));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Ops_with_columns(DType dtype, int columns, int gap)
    {
        using GuardedTensor vector = new RandomTensors(2).Normal([columns], dtype);
        Same(dtype, columns, gap, 1, 1, t => Elementwise.ScaleColumns(t[0], vector, t[1]));
        Same(dtype, columns, gap, 1, 1, t =>
        {
            Copy.Run(t[0], t[1]);
            Elementwise.AddBias(t[1], vector);
        });
        byte[][] sums = [.. new[] { 0, gap }.Select(g =>
        {
            using GuardedTensor dy = new RandomTensors(1).Normal([Rows, columns], dtype, rowGap: g);
            using GuardedTensor sum = GuardedTensor.From(new double[columns], [columns], dtype);
            Elementwise.BiasGradient(dy, sum);
            return sum.ToBytes();
        })];
        Assert.Equal(sums[0], sums[1]);
    }

    /// <summary>Results of norms; sums within a row take another order where rows are not aligned, so there only a gap of 8.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void Norms(DType dtype, int columns, int gap)
    {
        if (gap % 8 != 0)
        {
            gap = 8;
        }

        DType statistics = Check.Statistics(dtype);
        var random = new RandomTensors(3);
        using GuardedTensor x = random.Normal([Rows, columns], dtype);
        using GuardedTensor w = random.Normal([columns], dtype);
        using GuardedTensor dy = random.Normal([Rows, columns], dtype);
        using GuardedTensor mean = random.Normal([Rows], statistics);
        using GuardedTensor rstd = random.Normal([Rows], statistics);
        Same(dtype, columns, gap, 0, 1, t => RmsNorm.Forward(x, w, 1e-5f, t[0], rstd));
        Same(dtype, columns, gap, 0, 1, t => LayerNorm.Forward(x, w, w, 1e-5f, t[0], mean, rstd));
        Same(dtype, columns, gap, 0, 1, t => RmsNorm.Backward(dy, x, w, rstd, t[0], null));
        Same(dtype, columns, gap, 0, 1, t => LayerNorm.Backward(dy, x, w, mean, rstd, t[0], null, null));

        // Added to: the sum of what was there and of the gradient, rounded once.
        using GuardedTensor plain = GuardedTensor.Empty([Rows, columns], dtype);
        LayerNorm.Backward(dy, x, w, mean, rstd, plain, null, null);
        Same(dtype, columns, gap, 1, 1, t =>
        {
            Copy.Run(t[0], t[1]);
            LayerNorm.Backward(dy, x, w, mean, rstd, t[1], null, null, addX: true);
            double[] before = t[0].ToDoubles();
            double[] added = t[1].ToDoubles();
            double[] gradient = plain.ToDoubles();
            for (int i = 0; i < added.Length; i++)
            {
                // Two roundings to the dtype: u·|gradient| of the gradient alone, u·|before + gradient| of the sum.
                double allowed = 2 * ErrorBound.UnitRoundoff(dtype) * (Math.Abs(before[i]) + Math.Abs(gradient[i])) + ErrorBound.SubnormalRoundoff(dtype);
                Assert.InRange(added[i] - before[i] - gradient[i], -allowed, allowed);
            }
        });
    }

    // Runs on dense tensors and on tensors with gaps, and compares the outputs' bits; the sentinels in the gaps are checked when
    // the tensors are read.
    private static void Same(DType dtype, int columns, int gap, int inputs, int outputs, Action<Tensor[]> run)
    {
        byte[][][] results = [.. new[] { 0, gap }.Select(g =>
        {
            var random = new RandomTensors(1);
            GuardedTensor[] tensors =
            [
                .. Enumerable.Range(0, inputs).Select(_ => random.Normal([Rows, columns], dtype, rowGap: g)),
                .. Enumerable.Range(0, outputs).Select(_ => random.Normal([Rows, columns], dtype, rowGap: g)),
            ];
            run([.. tensors.Select(static t => t.Tensor)]);
            byte[][] bytes = [.. tensors.Skip(inputs).Select(static t => t.ToBytes())];
            Array.ForEach(tensors, static t => t.Dispose());
            return bytes;
        })];
        Assert.Equal(results[0], results[1]);
    }
}
