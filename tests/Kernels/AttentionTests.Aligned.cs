using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <content>q, k and v as slices of one buffer whose rows are aligned, as a model has them: GPUs have kernels for these alone.</content>
public sealed partial class AttentionTests
{
    public static TheoryData<DType, int[], Start> AlignedCases
    {
        get
        {
            // Batch, tokens, heads, key/value heads, dimension.
            var data = new TheoryData<DType, int[], Start>();
            foreach (DType dtype in new[] { DType.BF16, DType.F16, DType.F32 })
            {
                data.Add(dtype, [2, 64, 2, 2, 64], Start.Zero);
                data.Add(dtype, [1, 330, 4, 2, 64], Start.Zero);
                data.Add(dtype, [1, 330, 4, 1, 64], Start.Window);
                data.Add(dtype, [2, 200, 2, 2, 64], Start.Segments);
                data.Add(dtype, [2, 129, 2, 1, 64], Start.LeftPadding);
                data.Add(dtype, [2, 100, 2, 1, 64], Start.Nothing);
                data.Add(dtype, [1, 150, 2, 1, 40], Start.Window);
                data.Add(dtype, [1, 330, 4, 2, 128], Start.Zero);
                data.Add(dtype, [1, 330, 2, 2, 128], Start.Window);
                data.Add(dtype, [2, 200, 2, 1, 128], Start.Segments);
                data.Add(dtype, [2, 70, 2, 1, 128], Start.Nothing);
                data.Add(dtype, [1, 190, 2, 1, 104], Start.LeftPadding);
                data.Add(dtype, [1, 150, 2, 1, 80], Start.Zero);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(AlignedCases))]
    public void Aligned_slices_match_the_definition_and_its_derivative(DType dtype, int[] sizes, Start start)
    {
        (int batch, int tokens, int heads, int keyHeads, int dimension) = (sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]);
        AttentionCase c = Case(dtype, [batch, tokens, tokens, heads, keyHeads, dimension], backward: false);
        AttentionCase backward = Case(dtype, [batch, tokens, tokens, heads, keyHeads, dimension], backward: true);
        var random = new RandomTensors(21);
        float scale = 1 / MathF.Sqrt(dimension);
        Shape whole = [batch, tokens, heads + (2 * keyHeads), dimension];
        using Tensor fused = Aligned(random.Normal(whole, dtype));
        using Tensor dO = Aligned(random.Normal([batch, tokens, heads, dimension], dtype));
        using Tensor q = fused.Slice(2, 0, heads);
        using Tensor k = fused.Slice(2, heads, keyHeads);
        using Tensor v = fused.Slice(2, heads + keyHeads, keyHeads);
        int[] starts = Starts(c, start);
        using Tensor keyStart = Tensor.From(starts, [batch, tokens], TestDevice.Current);
        using Tensor o = Tensor.Empty([batch, tokens, heads, dimension], dtype, TestDevice.Current);
        using Tensor lse = Tensor.Empty([batch, heads, tokens], DType.F32, TestDevice.Current);
        Attention.Forward(q, k, v, keyStart, 0, scale, o, lse);

        var reference = new AttentionReference(c, q.ToDoubles(), k.ToDoubles(), v.ToDoubles(), starts, scale);
        using (GuardedTensor result = Compact(o))
        {
            KernelAssert.Close(c, reference.O, result, reference.OMagnitude);
        }

        double[] actualLse = lse.ToDoubles();
        ErrorBound bound = c.Error(DType.F32);
        Assert.All(reference.Lse, (expected, i) => Assert.True(
            expected == actualLse[i] || Math.Abs(expected - actualLse[i]) <= bound.Allowed(expected, reference.LseMagnitude[i]), $"lse {i}"));

        using Tensor gradient = Tensor.Empty(whole, dtype, TestDevice.Current);
        using Tensor dq = gradient.Slice(2, 0, heads);
        using Tensor dk = gradient.Slice(2, heads, keyHeads);
        using Tensor dv = gradient.Slice(2, heads + keyHeads, keyHeads);
        Attention.Backward(dO, q, k, v, o, lse, keyStart, scale, dq, dk, dv);
        reference.Backward(dO.ToDoubles(), o.ToDoubles(), actualLse);
        foreach ((Tensor actual, double[] expected, double[] magnitude) in new[]
        {
            (dq, reference.DQ, reference.DQMagnitude), (dk, reference.DK, reference.DKMagnitude), (dv, reference.DV, reference.DVMagnitude),
        })
        {
            using GuardedTensor result = Compact(actual);
            KernelAssert.Close(backward, expected, result, magnitude);
        }

        // The same bits again.
        using Tensor second = Tensor.Empty(whole, dtype, TestDevice.Current);
        using Tensor dq2 = second.Slice(2, 0, heads);
        using Tensor dk2 = second.Slice(2, heads, keyHeads);
        using Tensor dv2 = second.Slice(2, heads + keyHeads, keyHeads);
        Attention.Backward(dO, q, k, v, o, lse, keyStart, scale, dq2, dk2, dv2);
        Assert.Equal(gradient.ToDoubles(), second.ToDoubles());

        // Turned back, to a unit in the last place of what Rope does to these gradients, whatever products and sums the compiler fuses.
        double[] angles = [.. Enumerable.Range(0, (tokens + 3) * (dimension / 2)).Select(static i => 0.37 * i)];
        using Tensor cos = Tensor.From([.. angles.Select(static a => (float)Math.Cos(a))], [tokens + 3, dimension / 2], TestDevice.Current);
        using Tensor sin = Tensor.From([.. angles.Select(static a => (float)Math.Sin(a))], [tokens + 3, dimension / 2], TestDevice.Current);
        using Tensor positions = Tensor.From(
            [.. Enumerable.Range(0, batch * tokens).Select(i => (i % tokens) + 2)], [batch, tokens], TestDevice.Current);
        Attention.Backward(dO, q, k, v, o, lse, keyStart, scale, dq2, dk2, dv2, new(cos, sin, positions));
        double[] plain = gradient.ToDoubles();
        using (Tensor turned = gradient.Slice(2, 0, heads + keyHeads))
        {
            Rope.Apply(turned, cos, sin, positions, inverse: true, turned);
        }

        double[] expectedOfAll = gradient.ToDoubles();
        double[] actualOfAll = second.ToDoubles();
        int half = dimension / 2;
        for (int i = 0; i < plain.Length; i++)
        {
            bool isValue = i / dimension % (heads + (2 * keyHeads)) >= heads + keyHeads;
            double allowed = isValue ? 0 : 2 * ErrorBound.UnitRoundoff(dtype) * (Math.Abs(plain[i]) + Math.Abs(plain[i % dimension < half ? i + half : i - half]));
            Assert.True(Math.Abs(expectedOfAll[i] - actualOfAll[i]) <= allowed, $"element {i}: {actualOfAll[i]} for {expectedOfAll[i]}");
        }
    }

    // A tensor of its own, where the device puts it.
    private static Tensor Aligned(GuardedTensor values)
    {
        using (values)
        {
            Tensor tensor = Tensor.Empty(values.Tensor.Shape, values.Tensor.DType, TestDevice.Current);
            Copy.Run(values, tensor);
            return tensor;
        }
    }
}
