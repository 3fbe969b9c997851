using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>Random linears in a bordered weight, and its operands as the kernels see them.</summary>
internal sealed class AdaptedStack : IDisposable
{
    public AdaptedStack(DType dtype, int inputs, int[] linears, bool transposed)
    {
        int count = linears.Length / 2;
        var random = new RandomTensors(20);
        GuardedTensor[] frozen =
        [
            .. Enumerable.Range(0, count).Select(i =>
                random.Normal(transposed ? [inputs, linears[2 * i]] : [linears[2 * i], inputs], dtype, rowGap: 3)),
        ];
        int[] ranks = [.. Enumerable.Range(0, count).Select(i => linears[(2 * i) + 1])];
        Weight = BorderedWeight.Create([.. frozen.Select(f => f.Tensor)], ranks, transposed);
        Assert.True(Weight.TryAssign(ranks, [.. Enumerable.Range(0, count).Select(i => 0.5f + i)]));
        using var writer = new BorderWriter();
        DType masters = dtype == DType.F64 ? DType.F64 : DType.F32;
        GuardedTensor[] a = [.. ranks.Select(r => random.Normal([r, inputs], masters))];
        GuardedTensor[] b = [.. ranks.Select((r, i) => random.Normal([linears[2 * i], r], masters))];
        for (int i = 0; i < count; i++)
        {
            writer.Add(Weight, i, a[i], b[i]);
            Assert.True(Weight.Holds(Share(i), i));
            Assert.Equal(frozen[i].ToDoubles(), Share(i).ToDoubles());
        }

        writer.Run();
        Array.ForEach([.. frozen, .. a, .. b], static t => t.Dispose());
    }

    public BorderedWeight Weight { get; }

    /// <summary>A of all linears [R, K].</summary>
    public double[] Down()
    {
        using Tensor down = Weight.Down();
        return down.ToDoubles();
    }

    /// <summary>B of all linears [N, R].</summary>
    public double[] Up()
    {
        using Tensor up = Weight.Up();
        return up.ToDoubles();
    }

    /// <summary>The weights of all linears [N, K].</summary>
    public double[] Frozen()
    {
        double[][] all = [.. Enumerable.Range(0, Weight.Slots.Count).Select(i => Share(i).ToDoubles())];
        return Weight.IsTransposed ? LowRankTests.Transpose(all[0], Weight.Inputs, Weight.Outputs) : [.. all.SelectMany(static v => v)];
    }

    /// <summary>Rows of R, each times the scale of its linear.</summary>
    public double[] Scaled(double[] rows, int columns) =>
        [.. rows.Select((v, i) => v * Weight.Slots.Where(s => i / columns >= s.At && i / columns < s.At + s.Width).Select(s => (double)s.Scale).First())];

    public void Dispose()
    {
        _shares.ForEach(static t => t.Dispose());
        Weight.Dispose();
    }

    private readonly List<Tensor> _shares = [];

    private Tensor Share(int linear)
    {
        _shares.Add(Weight.Weight(linear));
        return _shares[^1];
    }
}
