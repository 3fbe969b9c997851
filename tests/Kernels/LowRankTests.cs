using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed partial class LowRankTests
{
    private const float Scale = 1.75f;

    /// <summary>Activation dtype, dtype of A and B, and R, K, N, r.</summary>
    public static TheoryData<DType, DType, int[]> Cases
    {
        get
        {
            var data = new TheoryData<DType, DType, int[]>();
            foreach ((DType x, DType w) in new[]
            {
                (DType.F32, DType.F32), (DType.F64, DType.F64), (DType.BF16, DType.BF16), (DType.F16, DType.F16),
                (DType.BF16, DType.F32), (DType.F16, DType.F32),
            }.Where(pair => TestDevice.Supports(pair.Item1)))
            {
                data.Add(x, w, [37, 65, 43, 8]);
                data.Add(x, w, [1, 192, 96, 16]);
                data.Add(x, w, [5, 1, 1, 1]);
                data.Add(x, w, [0, 8, 8, 2]);
                data.Add(x, w, [130, 33, 64, 3]);
                data.Add(x, w, [64, 256, 128, 16]);
            }

            data.Add(DType.F32, DType.F32, [3000, 24, 40, 4]);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Forward_adds_the_low_rank_product(DType activations, DType weights, int[] sizes)
    {
        (int rows, int inputs, int outputs, int rank) = (sizes[0], sizes[1], sizes[2], sizes[3]);
        var op = new LowRankCase(rows, inputs, outputs, rank, activations, false);
        var random = new RandomTensors(1);
        using GuardedTensor x = random.Normal([rows, inputs], activations, rowGap: 2);
        using GuardedTensor a = random.Normal([rank, inputs], weights);
        using GuardedTensor b = random.Normal([outputs, rank], weights, rowGap: 1);
        using GuardedTensor y = random.Normal([rows, outputs], activations, rowGap: 3);
        using GuardedTensor s = GuardedTensor.Empty([rows, rank], activations == DType.F64 ? DType.F64 : DType.F32);
        double[] before = y.ToDoubles();
        byte[] beforeBytes = y.ToBytes();
        LowRank.Forward(x, a, b, Scale, y, s);

        (double[] saved, double[] savedMagnitude) = Product(x.ToDoubles(), a.ToDoubles(), rows, rank, inputs, Scale, null);
        Close(op, saved, s, savedMagnitude);
        (double[] exact, _) = Product(saved, b.ToDoubles(), rows, outputs, rank, 1, before);
        double[] absolute = Array.ConvertAll(b.ToDoubles(), Math.Abs);
        (double[] magnitude, _) = Product(savedMagnitude, absolute, rows, outputs, rank, 1, Array.ConvertAll(before, Math.Abs));
        Close(op, exact, y, magnitude);

        // The same bits without saving s, and with s rounded to the activations' dtype; a GPU's products differ with the dtype
        // they write.
        byte[] expected = y.ToBytes();
        foreach (DType? savedType in new DType?[] { null, activations })
        {
            using GuardedTensor again = GuardedTensor.From(before, [rows, outputs], activations);
            Assert.Equal(beforeBytes, again.ToBytes());
            using GuardedTensor? rounded = savedType is null ? null : GuardedTensor.Empty([rows, rank], savedType.Value);
            LowRank.Forward(x, a, b, Scale, again, rounded?.Tensor);
            Close(op, exact, again, magnitude);
            Assert.True(TestDevice.IsCuda || expected.AsSpan().SequenceEqual(again.ToBytes()));
            if (rounded is not null)
            {
                Close(op, saved, rounded, savedMagnitude);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Backward_adds_the_three_gradients(DType activations, DType weights, int[] sizes)
    {
        (int rows, int inputs, int outputs, int rank) = (sizes[0], sizes[1], sizes[2], sizes[3]);
        var op = new LowRankCase(rows, inputs, outputs, rank, activations, true);
        var random = new RandomTensors(2);
        using GuardedTensor dy = random.Normal([rows, outputs], activations, rowGap: 2);
        using GuardedTensor x = random.Normal([rows, inputs], activations);
        using GuardedTensor a = random.Normal([rank, inputs], weights);
        using GuardedTensor b = random.Normal([outputs, rank], weights);
        using GuardedTensor s = random.Normal([rows, rank], activations == DType.F64 ? DType.F64 : DType.F32);
        using GuardedTensor dx = random.Normal([rows, inputs], activations, rowGap: 1);
        using GuardedTensor dA = random.Normal([rank, inputs], weights);
        using GuardedTensor dB = random.Normal([outputs, rank], weights);
        double[] dx0 = dx.ToDoubles();
        double[] dA0 = dA.ToDoubles();
        double[] dB0 = dB.ToDoubles();
        LowRank.Backward(dy, x, a, b, s, Scale, dx, dA, dB);

        double[] dyT = Transpose(dy.ToDoubles(), rows, outputs);
        (double[] ds, double[] dsMagnitude) = Product(dy.ToDoubles(), Transpose(b.ToDoubles(), outputs, rank), rows, rank, outputs, Scale, null);
        (double[] dxExact, _) = Product(ds, Transpose(a.ToDoubles(), rank, inputs), rows, inputs, rank, 1, dx0);
        (double[] dxMagnitude, _) = Product(
            dsMagnitude, Absolute(Transpose(a.ToDoubles(), rank, inputs)), rows, inputs, rank, 1, Absolute(dx0));
        Close(op, dxExact, dx, dxMagnitude);
        double[] xT = Transpose(x.ToDoubles(), rows, inputs);
        (double[] dAExact, _) = Product(Transpose(ds, rows, rank), xT, rank, inputs, rows, 1, dA0);
        (double[] dAMagnitude, _) = Product(Transpose(dsMagnitude, rows, rank), Absolute(xT), rank, inputs, rows, 1, Absolute(dA0));
        Close(op, dAExact, dA, dAMagnitude);
        (double[] dBExact, double[] dBMagnitude) = Product(dyT, Transpose(s.ToDoubles(), rows, rank), outputs, rank, rows, 1, dB0);
        Close(op, dBExact, dB, dBMagnitude);

        // Without what dx held.
        using GuardedTensor set = GuardedTensor.Empty([rows, inputs], activations);
        LowRank.Backward(dy, x, a, b, s, Scale, set, null, null, setX: true);
        (double[] setExact, _) = Product(ds, Transpose(a.ToDoubles(), rank, inputs), rows, inputs, rank, 1, null);
        (double[] setMagnitude, _) = Product(dsMagnitude, Absolute(Transpose(a.ToDoubles(), rank, inputs)), rows, inputs, rank, 1, null);
        Close(op, setExact, set, setMagnitude);

        // Each gradient alone has the same bits.
        using GuardedTensor only = GuardedTensor.From(dA0, [rank, inputs], weights);
        LowRank.Backward(dy, x, a, b, s, Scale, null, only, null);
        Assert.Equal(dA.ToBytes(), only.ToBytes());
    }

    /// <summary>What CUDA puts together from products, run on the CPU's products.</summary>
    [Theory]
    [Trait("Device", "Cpu")]
    [MemberData(nameof(Cases))]
    public void Products_put_together_agree(DType activations, DType weights, int[] sizes)
    {
        (int rows, int inputs, int outputs, int rank) = (sizes[0], sizes[1], sizes[2], sizes[3]);
        var random = new RandomTensors(5);
        using GuardedTensor x = random.Normal([rows, inputs], activations, rowGap: 2);
        using GuardedTensor a = random.Normal([rank, inputs], weights, rowGap: 1);
        using GuardedTensor b = random.Normal([outputs, rank], weights, rowGap: 1);
        using GuardedTensor dy = random.Normal([rows, outputs], activations);
        foreach (DType saved in new[] { activations, activations == DType.F64 ? DType.F64 : DType.F32 })
        {
            using GuardedTensor y = random.Normal([rows, outputs], activations, rowGap: 3);
            using GuardedTensor s = random.Normal([rows, rank], saved, rowGap: 1);
            using GuardedTensor dx = random.Normal([rows, inputs], activations, rowGap: 1);
            using GuardedTensor dA = random.Normal([rank, inputs], weights, rowGap: 2);
            using GuardedTensor dB = random.Normal([outputs, rank], weights);
            double[][] exact = Reference(absolute: false);
            double[][] magnitude = Reference(absolute: true);
            LowRankCuda.Backward(dy, x, a, b, s, Scale, dx, dA, dB);
            LowRankCuda.Forward(x, a, b, Scale, y, s);
            GuardedTensor[] results = [dx, dA, dB, y, s];
            for (int i = 0; i < results.Length; i++)
            {
                var op = new LowRankCase(rows, inputs, outputs, rank, activations, i < 3);
                KernelAssert.Close(op.RoundedError(results[i].Tensor.DType), op.Name, exact[i], results[i], magnitude[i]);
            }

            // In double precision, of the values or of their magnitudes.
            double[][] Reference(bool absolute)
            {
                GuardedTensor[] wide =
                [
                    .. new[] { x, a, b, dy, y, s, dx, dA, dB }.Select(t => GuardedTensor.From(
                        absolute ? Absolute(t.ToDoubles()) : t.ToDoubles(), t.Tensor.Shape, DType.F64)),
                ];
                LowRank.Backward(wide[3], wide[0], wide[1], wide[2], wide[5], Scale, wide[6], wide[7], wide[8]);
                LowRank.Forward(wide[0], wide[1], wide[2], Scale, wide[4], wide[5]);
                double[][] values = [.. new[] { 6, 7, 8, 4, 5 }.Select(i => wide[i].ToDoubles())];
                Array.ForEach(wide, t => t.Dispose());
                return values;
            }
        }
    }

    [Fact]
    public void Results_do_not_depend_on_the_thread_count() =>
        KernelAssert.SameBitsForEveryThreadCount(() =>
        {
            var random = new RandomTensors(4);
            using GuardedTensor x = random.Normal([2100, 64], DType.F32);
            using GuardedTensor a = random.Normal([8, 64], DType.F32);
            using GuardedTensor b = random.Normal([96, 8], DType.F32);
            using GuardedTensor dy = random.Normal([2100, 96], DType.F32);
            GuardedTensor y = random.Normal([2100, 96], DType.F32);
            GuardedTensor s = GuardedTensor.Empty([2100, 8], DType.F32);
            GuardedTensor dx = random.Normal([2100, 64], DType.F32);
            GuardedTensor dA = random.Normal([8, 64], DType.F32);
            GuardedTensor dB = random.Normal([96, 8], DType.F32);
            LowRank.Forward(x, a, b, Scale, y, s);
            LowRank.Backward(dy, x, a, b, s, Scale, dx, dA, dB);
            return [y, s, dx, dA, dB];
        });

    [Fact]
    public void Arguments_that_do_not_fit_are_named()
    {
        using Tensor x = Tensor.Zeros([3, 8], DType.F32, TestDevice.Current);
        using Tensor a = Tensor.Zeros([2, 8], DType.F32, TestDevice.Current);
        using Tensor wrong = Tensor.Zeros([2, 7], DType.F32, TestDevice.Current);
        using Tensor wide = Tensor.Zeros([2, 8], DType.F64, TestDevice.Current);
        using Tensor b = Tensor.Zeros([5, 2], DType.F32, TestDevice.Current);
        using Tensor y = Tensor.Zeros([3, 5], DType.F32, TestDevice.Current);
        Assert.Contains("8 columns", Assert.Throws<ArgumentException>(() => LowRank.Forward(x, wrong, b, 1, y)).Message);
        Assert.Contains("f64", Assert.Throws<ArgumentException>(() => LowRank.Forward(x, wide, b, 1, y)).Message);
        Assert.Contains("y has to", Assert.Throws<ArgumentException>(() => LowRank.Forward(x, a, b, 1, x)).Message);
    }

    private static void Close(LowRankCase op, double[] exact, GuardedTensor actual, double[] magnitude)
    {
        DType dtype = actual.Tensor.DType;
        KernelAssert.Close(TestDevice.IsCuda ? op.RoundedError(dtype) : op.Error(dtype), op.Name, exact, actual, magnitude);
    }

    // c + scale·a·bᵀ for a [m, k], b [n, k], and the sum of the absolute values.
    internal static (double[] Sum, double[] Magnitude) Product(double[] a, double[] b, int m, int n, int k, double scale, double[]? c)
    {
        var sum = new double[m * n];
        var magnitude = new double[m * n];
        for (int i = 0; i < m; i++)
        {
            for (int j = 0; j < n; j++)
            {
                double s = 0;
                double t = 0;
                for (int p = 0; p < k; p++)
                {
                    double product = a[(i * k) + p] * b[(j * k) + p] * scale;
                    s += product;
                    t += Math.Abs(product);
                }

                sum[(i * n) + j] = s + (c?[(i * n) + j] ?? 0);
                magnitude[(i * n) + j] = t + Math.Abs(c?[(i * n) + j] ?? 0);
            }
        }

        return (sum, magnitude);
    }

    internal static double[] Absolute(double[] values) => Array.ConvertAll(values, Math.Abs);

    internal static double[] Transpose(double[] a, int rows, int columns)
    {
        var result = new double[a.Length];
        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < columns; j++)
            {
                result[(j * rows) + i] = a[(i * columns) + j];
            }
        }

        return result;
    }
}
