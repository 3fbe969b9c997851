using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed partial class AttentionTests
{
    public enum Start
    {
        Zero,
        LeftPadding,
        Segments,
        Window,
        Nothing,
    }

    public static TheoryData<DType, int[], Start> ForwardCases
    {
        get
        {
            // Batch, queries, keys, heads, key/value heads, dimension.
            var data = new TheoryData<DType, int[], Start>();
            foreach (DType dtype in TestDevice.FloatTypes)
            {
                data.Add(dtype, [2, 37, 37, 6, 2, 32], Start.Zero);
                data.Add(dtype, [1, 1, 1, 1, 1, 1], Start.Zero);
                data.Add(dtype, [2, 5, 5, 2, 2, 7], Start.LeftPadding);
                data.Add(dtype, [1, 150, 150, 3, 1, 16], Start.Segments);
                data.Add(dtype, [1, 301, 301, 1, 1, 40], Start.Window);
                data.Add(dtype, [1, 130, 130, 2, 1, 80], Start.Zero);
                data.Add(dtype, [2, 40, 90, 2, 1, 24], Start.LeftPadding);
                data.Add(dtype, [2, 34, 34, 2, 1, 8], Start.Nothing);
                data.Add(dtype, [3, 1, 200, 6, 2, 32], Start.LeftPadding);
                data.Add(dtype, [2, 2, 131, 3, 3, 20], Start.Window);
                data.Add(dtype, [1, 1, 9, 2, 1, 64], Start.Nothing);

                // Whole tiles and aligned rows.
                data.Add(dtype, [1, 128, 128, 4, 2, 64], Start.Segments);
                data.Add(dtype, [2, 64, 64, 2, 2, 128], Start.LeftPadding);
                data.Add(dtype, [2, 1, 320, 8, 2, 128], Start.Zero);

                // Several blocks of several tiles, masks at both ends of a row, the last block partly empty.
                data.Add(dtype, [1, 330, 330, 2, 1, 64], Start.Zero);
                data.Add(dtype, [1, 290, 330, 2, 1, 128], Start.Window);
                data.Add(dtype, [1, 200, 200, 1, 1, 256], Start.Segments);
            }

            return data;
        }
    }

    public static TheoryData<DType, int[], Start> BackwardCases
    {
        get
        {
            var data = new TheoryData<DType, int[], Start>();
            foreach (DType dtype in TestDevice.FloatTypes)
            {
                data.Add(dtype, [2, 37, 37, 6, 2, 32], Start.Zero);
                data.Add(dtype, [1, 1, 1, 1, 1, 1], Start.Zero);
                data.Add(dtype, [2, 5, 5, 2, 2, 7], Start.LeftPadding);
                data.Add(dtype, [1, 150, 150, 3, 1, 16], Start.Segments);
                data.Add(dtype, [1, 130, 130, 2, 1, 80], Start.Window);
                data.Add(dtype, [2, 34, 34, 2, 1, 8], Start.Nothing);
                data.Add(dtype, [1, 128, 128, 4, 2, 64], Start.Segments);
                data.Add(dtype, [2, 64, 64, 2, 2, 128], Start.LeftPadding);
                data.Add(dtype, [1, 330, 330, 4, 2, 64], Start.Window);
                data.Add(dtype, [1, 330, 330, 2, 1, 128], Start.Zero);
                data.Add(dtype, [1, 200, 200, 1, 1, 256], Start.Segments);
            }

            // Long enough for separate tasks for dq and for dk, dv.
            data.Add(DType.F32, [1, 1100, 1100, 2, 1, 64], Start.Window);
            if (TestDevice.Supports(DType.F64))
            {
                data.Add(DType.F64, [1, 530, 530, 1, 1, 128], Start.Zero);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(ForwardCases))]
    public void Forward_matches_the_definition(DType dtype, int[] sizes, Start start)
    {
        AttentionCase c = Case(dtype, sizes, backward: false);
        var random = new RandomTensors(7);
        float scale = 1 / MathF.Sqrt(c.Dimension);
        using GuardedTensor q = random.Normal([c.Batch, c.Queries, c.Heads, c.Dimension], dtype, 1.5);
        using GuardedTensor k = random.Normal([c.Batch, c.Keys, c.KeyHeads, c.Dimension], dtype, 1.5, rowGap: 3);
        using GuardedTensor v = random.Normal([c.Batch, c.Keys, c.KeyHeads, c.Dimension], dtype);
        int[] starts = Starts(c, start);
        using GuardedTensor keyStart = GuardedTensor.From(starts, [c.Batch, c.Queries]);
        using GuardedTensor o = GuardedTensor.Empty([c.Batch, c.Queries, c.Heads, c.Dimension], dtype);
        using GuardedTensor lse = GuardedTensor.Empty([c.Batch, c.Heads, c.Queries], dtype == DType.F64 ? DType.F64 : DType.F32);
        Attention.Forward(q, k, v, keyStart, c.Keys - c.Queries, scale, o, lse);

        var reference = new AttentionReference(c, q.ToDoubles(), k.ToDoubles(), v.ToDoubles(), starts, scale);
        KernelAssert.Close(c, reference.O, o, reference.OMagnitude);
        double[] expected = reference.Lse;
        double[] actual = lse.ToDoubles();
        lse.AssertGuards();
        ErrorBound bound = c.Error(lse.Tensor.DType);
        for (int i = 0; i < expected.Length; i++)
        {
            if (double.IsNegativeInfinity(expected[i]))
            {
                Assert.Equal(expected[i], actual[i]);
            }
            else
            {
                Assert.True(Math.Abs(expected[i] - actual[i]) <= bound.Allowed(expected[i], reference.LseMagnitude[i]), $"lse {i}");
            }
        }

        using GuardedTensor again = GuardedTensor.Empty([c.Batch, c.Queries, c.Heads, c.Dimension], dtype);
        Attention.Forward(q, k, v, keyStart, c.Keys - c.Queries, scale, again, lse: null);
        Assert.Equal(o.ToBytes(), again.ToBytes());
    }

    [Theory]
    [MemberData(nameof(BackwardCases))]
    public void Backward_matches_the_derivative(DType dtype, int[] sizes, Start start)
    {
        AttentionCase c = Case(dtype, sizes, backward: true);
        var random = new RandomTensors(8);
        float scale = 1 / MathF.Sqrt(c.Dimension);
        Shape queryShape = [c.Batch, c.Queries, c.Heads, c.Dimension];
        Shape keyShape = [c.Batch, c.Keys, c.KeyHeads, c.Dimension];
        using GuardedTensor q = random.Normal(queryShape, dtype, 1.5);
        using GuardedTensor k = random.Normal(keyShape, dtype, 1.5);
        using GuardedTensor v = random.Normal(keyShape, dtype, rowGap: 5);
        using GuardedTensor dO = random.Normal(queryShape, dtype);
        int[] starts = Starts(c, start);
        using GuardedTensor keyStart = GuardedTensor.From(starts, [c.Batch, c.Queries]);
        var reference = new AttentionReference(c, q.ToDoubles(), k.ToDoubles(), v.ToDoubles(), starts, scale);
        using GuardedTensor o = GuardedTensor.From(reference.O, queryShape, dtype);
        using GuardedTensor lse = GuardedTensor.From(
            reference.Lse, [c.Batch, c.Heads, c.Queries], dtype == DType.F64 ? DType.F64 : DType.F32);
        using GuardedTensor dq = GuardedTensor.Empty(queryShape, dtype, rowGap: 1);
        using GuardedTensor dk = GuardedTensor.Empty(keyShape, dtype);
        using GuardedTensor dv = GuardedTensor.Empty(keyShape, dtype);
        Attention.Backward(dO, q, k, v, o, lse, keyStart, scale, dq, dk, dv);

        reference.Backward(dO.ToDoubles(), o.ToDoubles(), lse.ToDoubles());
        KernelAssert.Close(c, reference.DQ, dq, reference.DQMagnitude);
        KernelAssert.Close(c, reference.DK, dk, reference.DKMagnitude);
        KernelAssert.Close(c, reference.DV, dv, reference.DVMagnitude);
    }

    [Theory]
    [InlineData(DType.F32, -0.2f)]
    [InlineData(DType.BF16, -0.2f)]
    [InlineData(DType.BF16, 0)]
    public void Scales_that_are_not_positive_are_legal(DType dtype, float scale)
    {
        AttentionCase c = Case(dtype, [1, 140, 140, 2, 1, 64], backward: false);
        var random = new RandomTensors(12);
        using GuardedTensor q = random.Normal([c.Batch, c.Queries, c.Heads, c.Dimension], dtype);
        using GuardedTensor k = random.Normal([c.Batch, c.Keys, c.KeyHeads, c.Dimension], dtype);
        using GuardedTensor v = random.Normal([c.Batch, c.Keys, c.KeyHeads, c.Dimension], dtype);
        int[] starts = Starts(c, Start.Window);
        using GuardedTensor keyStart = GuardedTensor.From(starts, [c.Batch, c.Queries]);
        using GuardedTensor o = GuardedTensor.Empty([c.Batch, c.Queries, c.Heads, c.Dimension], dtype);
        Attention.Forward(q, k, v, keyStart, 0, scale, o, lse: null);

        var reference = new AttentionReference(c, q.ToDoubles(), k.ToDoubles(), v.ToDoubles(), starts, scale);
        KernelAssert.Close(c, reference.O, o, reference.OMagnitude);
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void Slices_of_a_fused_buffer_give_the_same_bits_as_separate_tensors(DType dtype)
    {
        const int B = 2, T = 45, H = 4, Kv = 2, D = 32;
        using GuardedTensor fused = new RandomTensors(9).Normal([B, T, H + (2 * Kv), D], dtype);
        using Tensor q = fused.Tensor.Slice(2, 0, H);
        using Tensor k = fused.Tensor.Slice(2, H, Kv);
        using Tensor v = fused.Tensor.Slice(2, H + Kv, Kv);
        using GuardedTensor q1 = Compact(q);
        using GuardedTensor k1 = Compact(k);
        using GuardedTensor v1 = Compact(v);
        using GuardedTensor keyStart = GuardedTensor.From(new int[B * T], [B, T]);
        using GuardedTensor o = GuardedTensor.Empty([B, T, H, D], dtype);
        using GuardedTensor o1 = GuardedTensor.Empty([B, T, H, D], dtype);
        using GuardedTensor lse = GuardedTensor.Empty([B, H, T], DType.F32);
        Attention.Forward(q, k, v, keyStart, 0, 0.2f, o, lse);
        Attention.Forward(q1, k1, v1, keyStart, 0, 0.2f, o1, lse);
        Assert.Equal(o1.ToBytes(), o.ToBytes());

        using GuardedTensor gradient = GuardedTensor.Empty([B, T, H + (2 * Kv), D], dtype);
        using Tensor dq = gradient.Tensor.Slice(2, 0, H);
        using Tensor dk = gradient.Tensor.Slice(2, H, Kv);
        using Tensor dv = gradient.Tensor.Slice(2, H + Kv, Kv);
        using GuardedTensor dq1 = GuardedTensor.Empty([B, T, H, D], dtype);
        using GuardedTensor dk1 = GuardedTensor.Empty([B, T, Kv, D], dtype);
        using GuardedTensor dv1 = GuardedTensor.Empty([B, T, Kv, D], dtype);
        Attention.Backward(q, q, k, v, o, lse, keyStart, 0.2f, dq, dk, dv);
        Attention.Backward(q1, q1, k1, v1, o1, lse, keyStart, 0.2f, dq1, dk1, dv1);
        gradient.AssertGuards();
        foreach ((Tensor strided, GuardedTensor expected) in new[] { (dq, dq1), (dk, dk1), (dv, dv1) })
        {
            using GuardedTensor compact = Compact(strided);
            Assert.Equal(expected.ToBytes(), compact.ToBytes());
        }
    }

    [Theory]
    [InlineData(130, 32)]
    [InlineData(700, 128)]
    public void Results_do_not_depend_on_the_thread_count(int length, int dimension) =>
        KernelAssert.SameBitsForEveryThreadCount(() =>
        {
            var random = new RandomTensors(10);
            Shape queries = [2, length, 4, dimension];
            Shape keys = [2, length, 2, dimension];
            using GuardedTensor q = random.Normal(queries, DType.F32);
            using GuardedTensor k = random.Normal(keys, DType.F32);
            using GuardedTensor v = random.Normal(keys, DType.F32);
            using GuardedTensor keyStart = GuardedTensor.From(new int[2 * length], [2, length]);
            GuardedTensor o = GuardedTensor.Empty(queries, DType.F32);
            GuardedTensor lse = GuardedTensor.Empty([2, 4, length], DType.F32);
            GuardedTensor dq = GuardedTensor.Empty(queries, DType.F32);
            GuardedTensor dk = GuardedTensor.Empty(keys, DType.F32);
            GuardedTensor dv = GuardedTensor.Empty(keys, DType.F32);
            Attention.Forward(q, k, v, keyStart, 0, 0.1f, o, lse);
            Attention.Backward(q, q, k, v, o, lse, keyStart, 0.1f, dq, dk, dv);
            return [o, lse, dq, dk, dv];
        });

    [Fact]
    public void Empty_inputs_are_legal()
    {
        foreach (Shape shape in new Shape[] { [0, 4, 2, 8], [2, 0, 2, 8] })
        {
            using Tensor q = Tensor.Empty(shape, DType.F32, TestDevice.Current);
            using Tensor keyStart = Tensor.Zeros([shape[0], shape[1]], DType.I32, TestDevice.Current);
            using Tensor lse = Tensor.Empty([shape[0], 2, shape[1]], DType.F32, TestDevice.Current);
            using Tensor o = q.EmptyLike();
            Attention.Forward(q, q, q, keyStart, 0, 1, o, lse);
            Attention.Backward(q, q, q, q, o, lse, keyStart, 1, o, o, o);
        }
    }

    [Fact]
    public void Arguments_that_do_not_fit_are_named()
    {
        using Tensor q = Tensor.Zeros([1, 4, 3, 8], DType.F32, TestDevice.Current);
        using Tensor k = Tensor.Zeros([1, 4, 2, 8], DType.F32, TestDevice.Current);
        using Tensor one = Tensor.Zeros([1, 4, 1, 8], DType.F32, TestDevice.Current);
        using Tensor keyStart = Tensor.Zeros([1, 4], DType.I32, TestDevice.Current);
        using Tensor o = q.EmptyLike();
        Assert.Contains("multiple", Assert.Throws<ArgumentException>(() => Attention.Forward(q, k, k, keyStart, 0, 1, o, null)).Message);
        Assert.Contains("keys 1 to 4", Assert.Throws<ArgumentException>(() => Attention.Forward(q, one, one, keyStart, 1, 1, o, null)).Message);
        using Tensor transposed = q.Transpose(1, 3);
        Assert.Contains("stride 1", Assert.Throws<ArgumentException>(() => Attention.Forward(transposed, one, one, keyStart, 0, 1, o, null)).Message);
    }

    // A GPU's tensor cores take p and ds in the tensors' dtype; its forward for up to 8 queries does without them.
    private static AttentionCase Case(DType dtype, int[] s, bool backward) => new(s[0], s[1], s[2], s[3], s[4], s[5], dtype, backward)
    {
        RoundsProbabilities = TestDevice.IsCuda && dtype is DType.BF16 or DType.F16 && (backward || s[1] > 8),
    };

    private static int[] Starts(AttentionCase c, Start start)
    {
        var starts = new int[c.Batch * c.Queries];
        for (int n = 0; n < starts.Length; n++)
        {
            int b = n / c.Queries;
            int slot = c.Keys - c.Queries + (n % c.Queries);
            starts[n] = start switch
            {
                Start.Zero => 0,
                Start.LeftPadding => 3 * b,
                Start.Segments => slot < 13 ? 0 : slot < 77 ? 13 : slot < 78 ? 77 : 78,
                Start.Window => slot - 70,
                _ => slot % 2 == 0 ? slot + 1 : int.MaxValue,
            };
        }

        return starts;
    }

    private static GuardedTensor Compact(Tensor tensor) => GuardedTensor.From(tensor.ToDoubles(), tensor.Shape, tensor.DType);
}
