using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>The low-rank path in the border of frozen weights.</summary>
public sealed partial class LowRankTests
{
    /// <summary>Dtype, R, K, then outputs and rank of each linear; negative K: stored transposed.</summary>
    public static TheoryData<DType, int, int, int[]> Stacks
    {
        get
        {
            var data = new TheoryData<DType, int, int, int[]>();
            foreach (DType dtype in KernelAssert.FloatTypes)
            {
                data.Add(dtype, 37, 65, [43, 8]);
                data.Add(dtype, 1, 64, [32, 4]);
                data.Add(dtype, 0, 16, [8, 4]);
                data.Add(dtype, 130, 72, [40, 3, 24, 0, 16, 16]);
                data.Add(dtype, 65, -48, [56, 5]);
                data.Add(dtype, 64, 128, [64, 80]);
            }

            foreach (DType dtype in TestDevice.FloatTypes.Where(static t => t is DType.BF16 or DType.F16))
            {
                // Each width of the kernels, several blocks of rows and columns, shared depths.
                data.Add(dtype, 300, 520, [1104, 16]);
                data.Add(dtype, 70, 2056, [136, 1, 128, 16, 520, 16]);
                data.Add(dtype, 333, 200, [264, 24, 40, 32]);
                data.Add(dtype, 190, 136, [296, 64]);
                data.Add(dtype, 129, -264, [776, 8]);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Stacks))]
    public void Bordered_weights_give_the_products_and_gradients_of_the_adapted_stack(DType dtype, int rows, int inputs, int[] linears)
    {
        bool transposed = inputs < 0;
        int k = Math.Abs(inputs);
        using var stack = new AdaptedStack(dtype, k, linears, transposed);
        BorderedWeight weight = stack.Weight;
        (int n, int width) = (weight.Outputs, weight.Width);
        var forward = new LowRankCase(rows, k, n, width, dtype, false);
        var backward = new LowRankCase(rows, k, n, width, dtype, true);
        DType gradients = dtype == DType.F64 ? DType.F64 : DType.F32;
        var random = new RandomTensors(21);

        using Tensor x = Bordered(random, rows, k, weight);
        using Tensor s = x.BorderColumns(width);
        LowRank.Down(x, weight, s);
        double[] a = stack.Down();
        (double[] sExact, double[] sMagnitude) = Product(x.ToDoubles(), stack.Scaled(a, k), rows, width, k, 1, null);
        Close(forward, sExact, s, sMagnitude);
        for (int i = 0; i < weight.Slots.Count; i++)
        {
            LowRank.Down(x, weight, s, i);
        }

        Close(forward, sExact, s, sMagnitude);
        byte[] sBytes = Bytes(s);
        LowRank.Down(x, weight, s);

        // A GPU forms the S of several linears in another way than one's.
        if (!TestDevice.IsCuda || weight.Slots.Count == 1)
        {
            Assert.Equal(sBytes, Bytes(s));
        }

        // Y = [X S]·[W B]ᵀ + bias, with S as it is stored.
        GuardedTensor[] biases = [.. weight.Slots.Select(slot => random.Normal([slot.Outputs], dtype))];
        using Tensor y = Tensor.Empty([rows, n], dtype, TestDevice.Current);
        LowRank.Product(x, weight, [], y);
        using Tensor wide = x.WithBorder(width);
        double[] b = stack.Up();
        double[] operand = Beside(stack.Frozen(), b, n, k, width);
        (double[] yExact, double[] yMagnitude) = Product(wide.ToDoubles(), operand, rows, n, k + width, 1, null);
        Close(forward, yExact, y, yMagnitude);

        // With biases; the product may be rounded before one is added.
        LowRank.Product(x, weight, [.. biases.Select((b, i) => i % 2 == 0 ? b.Tensor : null)], y);
        double[] shift = [.. Enumerable.Range(0, rows).SelectMany(_ => biases.SelectMany((b, i) => i % 2 == 0 ? b.ToDoubles() : new double[b.ToDoubles().Length]))];
        (yExact, yMagnitude) = Product(wide.ToDoubles(), operand, rows, n, k + width, 1, shift);
        Close(forward, yExact, y, yMagnitude, ErrorBound.UnitRoundoff(dtype));

        // dS, dB; then dX = [dY dS]·[W; A] and dA.
        using Tensor dy = Bordered(random, rows, n, weight);
        GuardedTensor[] dB = [.. weight.Slots.Select(slot => random.Normal([slot.Outputs, slot.Rank], gradients))];
        double[][] dB0 = [.. dB.Select(t => t.ToDoubles())];
        LowRank.GradientY(dy, weight, s, [.. dB.Select((t, i) => i == 1 ? null : t.Tensor)]);
        using Tensor ds = dy.BorderColumns(width);
        double[] dyValues = dy.ToDoubles();
        (double[] dsExact, double[] dsMagnitude) = Product(dyValues, stack.Scaled(Transpose(b, n, width), n), rows, width, n, 1, null);
        Close(backward, dsExact, ds, dsMagnitude);
        (double[] dBExact, double[] dBMagnitude) = Product(Transpose(dyValues, rows, n), Transpose(s.ToDoubles(), rows, width), n, width, rows, 1, null);
        for (int i = 0; i < dB.Length; i++)
        {
            BorderSlot slot = weight.Slots[i];
            double[] sum = i == 1 ? dB0[i] : Part(dBExact, width, slot.Begin, slot.Outputs, slot.At, slot.Rank, dB0[i]);
            Close(backward, sum, dB[i], Part(dBMagnitude, width, slot.Begin, slot.Outputs, slot.At, slot.Rank, Absolute(dB0[i])));
        }

        using GuardedTensor dx = random.Normal([rows, k], dtype);
        double[] dx0 = dx.ToDoubles();
        using Tensor both = dy.WithBorder(width);
        LowRank.ProductBackward(dy, weight, dx, 1);
        double[] below = Transpose([.. stack.Frozen(), .. a], n + width, k);
        (double[] dxExact, double[] dxMagnitude) = Product(both.ToDoubles(), below, rows, k, n + width, 1, dx0);
        Close(backward, dxExact, dx, dxMagnitude);

        GuardedTensor[] dA = [.. weight.Slots.Select(slot => random.Normal([slot.Rank, k], gradients))];
        double[][] dA0 = [.. dA.Select(t => t.ToDoubles())];
        LowRank.GradientX(x, weight, ds, [.. dA.Select(t => t.Tensor)]);
        (double[] dAExact, double[] dAMagnitude) = Product(Transpose(ds.ToDoubles(), rows, width), Transpose(x.ToDoubles(), rows, k), width, k, rows, 1, null);
        for (int i = 0; i < dA.Length; i++)
        {
            BorderSlot slot = weight.Slots[i];
            Close(
                backward,
                Part(dAExact, k, slot.At, slot.Rank, 0, k, dA0[i]),
                dA[i],
                Part(dAMagnitude, k, slot.At, slot.Rank, 0, k, Absolute(dA0[i])));
        }

        Array.ForEach([.. biases, .. dB, .. dA], static t => t.Dispose());
    }

    [Fact]
    public void Bordered_results_are_the_same_every_time() =>
        KernelAssert.SameBitsForEveryThreadCount(() =>
        {
            DType dtype = TestDevice.IsCuda ? DType.BF16 : DType.F32;
            using var stack = new AdaptedStack(dtype, 512, [1024, 16, 264, 8], transposed: false);
            var random = new RandomTensors(4);
            Tensor x = Bordered(random, 700, 512, stack.Weight);
            Tensor dy = Bordered(random, 700, 1288, stack.Weight);
            using Tensor s = x.BorderColumns(24);
            using Tensor ds = dy.BorderColumns(24);
            GuardedTensor[] gradients =
            [
                GuardedTensor.From(new double[1024 * 16], [1024, 16], DType.F32), GuardedTensor.From(new double[264 * 8], [264, 8], DType.F32), GuardedTensor.From(new double[16 * 512], [16, 512], DType.F32),
                GuardedTensor.From(new double[8 * 512], [8, 512], DType.F32),
            ];
            LowRank.Down(x, stack.Weight, s);
            LowRank.GradientY(dy, stack.Weight, s, [gradients[0], gradients[1]]);
            LowRank.GradientX(x, stack.Weight, ds, [gradients[2], gradients[3]]);
            GuardedTensor down = GuardedTensor.From(s.ToDoubles(), [700, 24], dtype);
            GuardedTensor dDown = GuardedTensor.From(ds.ToDoubles(), [700, 24], dtype);
            x.Dispose();
            dy.Dispose();
            return [down, dDown, .. gradients];
        });

    [Fact]
    public void A_border_serves_another_adapter_that_fits_and_no_other()
    {
        using var stack = new AdaptedStack(DType.F32, 16, [8, 16, 8, 24], transposed: false);
        Assert.False(stack.Weight.TryAssign([32, 24], [1, 1]));
        Assert.True(stack.Weight.TryAssign([8, 3], [2, 3]));
        Assert.Equal([new(0, 8, 0, 8, 8, 2), new(8, 8, 8, 32, 3, 3)], stack.Weight.Slots);
        Assert.All(stack.Down(), static v => Assert.Equal(0, v));
        Assert.All(stack.Up(), static v => Assert.Equal(0, v));

        // Nothing of what the borders held before comes into the products.
        var random = new RandomTensors(6);
        using Tensor x = Bordered(random, 5, 16, stack.Weight);
        using Tensor dy = Bordered(random, 5, 16, stack.Weight);
        using Tensor sx = x.BorderColumns(stack.Weight.Width);
        using Tensor y = Tensor.Empty([5, 16], DType.F32, TestDevice.Current);
        for (int each = 0; each < 2; each++)
        {
            if (each == 0)
            {
                LowRank.Down(x, stack.Weight, sx);
            }
            else
            {
                LowRank.Down(x, stack.Weight, sx, 0);
                LowRank.Down(x, stack.Weight, sx, 1);
            }

            LowRank.Product(x, stack.Weight, [], y);
            Assert.All(y.ToDoubles(), static v => Assert.True(double.IsFinite(v)));
        }

        LowRank.GradientY(dy, stack.Weight, sx, [null, null]);
        LowRank.ProductBackward(dy, stack.Weight, y, 0);
        Assert.All(y.ToDoubles(), static v => Assert.True(double.IsFinite(v)));
        using Tensor narrow = Tensor.Zeros([3, 16], DType.F32, TestDevice.Current);
        using Tensor s = Tensor.Zeros([3, 7], DType.F32, TestDevice.Current);
        Assert.Contains("columns", Assert.Throws<ArgumentException>(() => LowRank.Down(narrow, stack.Weight, s)).Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => LowRank.Product(narrow, stack.Weight, [], s));
    }

    // Random values with a border of poison.
    internal static Tensor Bordered(RandomTensors random, int rows, int columns, BorderedWeight weight)
    {
        using GuardedTensor values = random.Normal([rows, columns], weight.DType);
        Tensor result = Tensor.EmptyBordered([rows, columns], weight.Border, weight.DType, TestDevice.Current);
        using Tensor border = result.BorderColumns(weight.Border);
        using GuardedTensor poison = GuardedTensor.From([.. Enumerable.Repeat(double.NaN, rows * weight.Border)], border.Shape, weight.DType);
        Copy.Run(values, result);
        Copy.Run(poison, border);
        return result;
    }

    internal static void Close(LowRankCase op, double[] exact, Tensor actual, double[] magnitude, double roundings = 0)
    {
        using GuardedTensor copy = GuardedTensor.From(actual.ToDoubles(), actual.Shape, actual.DType);
        ErrorBound bound = op.Error(actual.DType);
        KernelAssert.Close(bound with { Arithmetic = bound.Arithmetic + roundings }, op.Name, exact, copy, magnitude);
    }

    internal static byte[] Bytes(Tensor tensor)
    {
        using Tensor dense = Copy.Dense(tensor);
        return dense.ToBytes();
    }

    // [n, k] and [n, r] as one [n, k + r].
    private static double[] Beside(double[] left, double[] right, int n, int k, int r) =>
        [.. Enumerable.Range(0, n).SelectMany(i => left.AsSpan(i * k, k).ToArray().Concat(right.AsSpan(i * r, r).ToArray()))];

    // Some rows and columns of a matrix of `stride` columns, added to what was there.
    private static double[] Part(double[] matrix, int stride, int row, int rows, int column, int columns, double[] before) =>
        [.. Enumerable.Range(0, rows * columns).Select(i => matrix[((row + (i / columns)) * stride) + column + (i % columns)] + before[i])];
}
