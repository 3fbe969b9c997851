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
