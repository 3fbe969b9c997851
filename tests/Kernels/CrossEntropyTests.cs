using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class CrossEntropyTests
{
    public static TheoryData<DType, int, int> Cases
    {
        get
        {
            var data = new TheoryData<DType, int, int>();
            foreach (DType dtype in TestDevice.FloatTypes)
            {
                // On a GPU the long ones are for clusters of two, four and eight blocks, or longer than what fits in shared memory, of
                // f32, and of 16 bits too, and in registers beside it; the last, of f32, is too long for a cluster.
                foreach ((int rows, int vocabulary) in new[]
                {
                    (0, 5), (1, 1), (3, 7), (5, 1024), (4, 3011), (2, 32000), (5, 50257), (3, 70001), (1, 128256), (2, 130000),
                    (2, 200003), (1, 470011),
                })
                {
                    data.Add(dtype, rows, vocabulary);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Losses_and_gradients_are_within_their_bounds(DType dtype, int rows, int vocabulary)
    {
        const float Scale = 0.37f;
        var random = new RandomTensors(1);
        using GuardedTensor logits = random.Normal([rows, vocabulary], dtype, deviation: 4, mean: 3);
        int[] labelIds = random.Integers(rows, 0, vocabulary);
        if (rows > 2)
        {
            labelIds[1] = CrossEntropy.IgnoredLabel;
        }

        using GuardedTensor labels = GuardedTensor.From(labelIds, [rows]);

        DType statistics = dtype == DType.F64 ? DType.F64 : DType.F32;
        using GuardedTensor losses = GuardedTensor.Empty([rows], statistics);
        using GuardedTensor gradient = GuardedTensor.Empty([rows, vocabulary], dtype);
        CrossEntropy.Forward(logits, labels, losses, gradient, Scale);
        double[] x = logits.ToDoubles();
        double[] exactLosses = new double[rows];
        double[] exact = new double[x.Length];
        double[] magnitude = new double[x.Length];
        for (int r = 0; r < rows; r++)
        {
            int label = labelIds[r];
            if (label == CrossEntropy.IgnoredLabel)
            {
                continue;
            }

            double[] row = x[(r * vocabulary)..((r + 1) * vocabulary)];
            double max = row.Max();
            double sum = row.Sum(v => Math.Exp(v - max));
            exactLosses[r] = max + Math.Log(sum) - row[label];
            for (int c = 0; c < vocabulary; c++)
            {
                double p = Math.Exp(row[c] - max) / sum;
                exact[(r * vocabulary) + c] = Scale * (p - (c == label ? 1 : 0));
                magnitude[(r * vocabulary) + c] = Scale * ((p * (1 + max - row[c])) + (c == label ? 1 : 0));
            }
        }

        var op = new CrossEntropyCase(rows, vocabulary, dtype, Gradient: true);
        KernelAssert.Close(op, exactLosses, losses, [.. Enumerable.Repeat(1.0, rows)]);
        KernelAssert.Close(op, exact, gradient, magnitude);

        // In place, and without a gradient: the same bits.
        byte[] expected = gradient.ToBytes();
        byte[] expectedLosses = losses.ToBytes();
        CrossEntropy.Forward(logits, labels, losses, null, Scale);
        Assert.Equal(expectedLosses, losses.ToBytes());
        CrossEntropy.Forward(logits, labels, losses, logits, Scale);
        Assert.Equal(expected, logits.ToBytes());
        Assert.Equal(expectedLosses, losses.ToBytes());
    }

    [Theory]
    [InlineData(DType.F32, DType.BF16, 2051)]
    [InlineData(DType.F32, DType.F16, 2051)]
    [InlineData(DType.BF16, DType.F32, 2051)]
    [InlineData(DType.BF16, DType.BF16, 2051)]
    [InlineData(DType.BF16, DType.BF16, 50257)]
    [InlineData(DType.F16, DType.F32, 50257)]
    [InlineData(DType.F32, DType.F16, 50257)]
    [InlineData(DType.F32, DType.BF16, 140003)]
    [InlineData(DType.BF16, DType.F32, 140003)]
    [DoubleData(DType.F64, DType.F64, 2051)]
    public void Gaps_between_rows_and_a_gradient_of_another_dtype_change_nothing_else(DType dtype, DType gradientType, int vocabulary)
    {
        const int Rows = 5;
        const float Scale = 0.37f;
        double[] values = new RandomTensors(5).Values((long)Rows * vocabulary, 4);
        using GuardedTensor packed = GuardedTensor.From(values, [Rows, vocabulary], dtype);
        using GuardedTensor labels = GuardedTensor.From([3, CrossEntropy.IgnoredLabel, 0, vocabulary - 1, vocabulary / 2], [Rows]);
        using GuardedTensor packedLosses = GuardedTensor.Empty([Rows], Check.Statistics(dtype));
        using GuardedTensor wide = GuardedTensor.Empty([Rows, vocabulary], Check.Statistics(dtype));
        using GuardedTensor source = GuardedTensor.From(packed.ToDoubles(), [Rows, vocabulary], Check.Statistics(dtype));
        CrossEntropy.Forward(source, labels, packedLosses, wide, Scale);
        using GuardedTensor expected = GuardedTensor.From(wide.ToDoubles(), [Rows, vocabulary], gradientType);

        using GuardedTensor logits = GuardedTensor.From(values, [Rows, vocabulary], dtype, rowGap: 13);
        using GuardedTensor gradient = GuardedTensor.Empty([Rows, vocabulary], gradientType, rowGap: 6);
        using GuardedTensor losses = GuardedTensor.Empty([Rows], Check.Statistics(dtype));
        CrossEntropy.Forward(logits, labels, losses, gradient, Scale);
        gradient.AssertGuards();
        AssertSame(expected, gradient);
        AssertSame(packedLosses, losses);

        // In place between gaps, with the factor in a tensor.
        using GuardedTensor scale = GuardedTensor.From([Scale], [1], DType.F32);
        CrossEntropy.Forward(logits, labels, losses, logits, scale);
        using GuardedTensor inPlace = GuardedTensor.From(wide.ToDoubles(), [Rows, vocabulary], dtype);
        logits.AssertGuards();
        AssertSame(inPlace, logits);

        // Bit for bit; on a GPU, where the order of the sum over a row depends on its alignment, both are within the op's bound
        // of the exact value, so within twice that of each other. With |x| < 20 the magnitude behind a loss is below 40, that
        // behind a gradient s·p, s·p·(1 + max − x), below 40 of it; at a label, whose p is far from 1, s·(1 + …) is too.
        void AssertSame(GuardedTensor one, GuardedTensor other)
        {
            if (!TestDevice.IsCuda)
            {
                Assert.Equal(one.ToBytes(), other.ToBytes());
                return;
            }

            ErrorBound bound = new CrossEntropyCase(Rows, vocabulary, dtype, Gradient: true).Error(one.Tensor.DType);
            double[] values = one.ToDoubles();
            bool isLoss = values.Length == Rows;
            KernelAssert.Close(
                bound with { Storage = 2 * bound.Storage, Arithmetic = 2 * bound.Arithmetic },
                "CrossEntropy",
                values,
                other,
                [.. values.Select(v => isLoss ? 40 : Math.Abs(v) * 40)]);
        }
    }

    [Fact]
    [Trait("Device", "Cpu")]
    public void A_factor_in_double_keeps_its_bits()
    {
        using GuardedTensor logits = GuardedTensor.From([0, 0], [1, 2], DType.F64);
        using GuardedTensor labels = GuardedTensor.From([1], [1]);
        using GuardedTensor losses = GuardedTensor.Empty([1], DType.F64);
        using GuardedTensor scale = GuardedTensor.From([1.0 / 3], [1], DType.F64);
        CrossEntropy.Forward(logits, labels, losses, logits, scale);
        Assert.Equal([1.0 / 6, -1.0 / 6], logits.ToDoubles());
    }

    [Fact]
    public void Arguments_that_do_not_fit_are_named()
    {
        using Tensor logits = Tensor.Zeros([2, 8], DType.F32, Device.Cpu);
        using Tensor labels = Tensor.Zeros([2], DType.I32, Device.Cpu);
        using Tensor losses = Tensor.Zeros([2], DType.F32, Device.Cpu);
        using Tensor wide = Tensor.Zeros([2, 8], DType.F64, Device.Cpu);
        using Tensor half = new(logits.Storage.Retain(), DType.BF16, [2, 8], logits.Strides);
        using Tensor one = Tensor.Zeros([1], DType.F64, Device.Cpu);
        Assert.Contains("f64 when and only when", Message(wide));
        Assert.Contains("logits itself or a tensor elsewhere", Message(half));
        Assert.Contains(
            "gradScale has to be f32", Assert.Throws<ArgumentException>(() => CrossEntropy.Forward(logits, labels, losses, null, one)).Message);

        string Message(Tensor gradient) =>
            Assert.Throws<ArgumentException>(() => CrossEntropy.Forward(logits, labels, losses, gradient, 1)).Message;
    }

    // On a GPU the longer row is shared by four blocks, of which two have but excluded logits.
    [Theory]
    [InlineData(2500)]
    [InlineData(60000)]
    public void Huge_and_excluded_logits_stay_finite(int vocabulary)
    {
        int twin = vocabulary - 100;
        double[] row = new double[vocabulary];
        row.AsSpan().Fill(double.NegativeInfinity);
        row[3] = -1e30;
        row[1500] = 1e30;
        row[twin] = 1e30;
        using GuardedTensor logits = GuardedTensor.From(row, [1, vocabulary], DType.F32);
        using GuardedTensor labels = GuardedTensor.From([twin], [1]);
        using GuardedTensor losses = GuardedTensor.Empty([1], DType.F32);
        CrossEntropy.Forward(logits, labels, losses, logits, 1);
        Assert.Equal((double)(float)Math.Log(2), losses.ToDoubles()[0]);
        double[] gradient = logits.ToDoubles();
        Assert.Equal(0.5, gradient[1500]);
        Assert.Equal(-0.5, gradient[twin]);
        Assert.Equal(0, gradient.Sum());
        Assert.Equal(vocabulary - 2, gradient.Count(v => v == 0));
    }

    [Theory]
    [InlineData(2500, 0)]
    [InlineData(2500, 1300)]
    [InlineData(2500, 2499)]
    [InlineData(60000, 0)]
    [InlineData(60000, 40000)]
    [InlineData(60000, 59999)]
    public void NaN_anywhere_gives_a_NaN_loss(int vocabulary, int position)
    {
        double[] row = new RandomTensors(2).Values(vocabulary);
        row[position] = double.NaN;
        using GuardedTensor logits = GuardedTensor.From(row, [1, vocabulary], DType.F32);
        using GuardedTensor labels = GuardedTensor.From([7], [1]);
        using GuardedTensor losses = GuardedTensor.From([0], [1], DType.F32);
        CrossEntropy.Forward(logits, labels, losses, null, 1);
        Assert.True(double.IsNaN(losses.ToDoubles()[0]));
    }

    // A GPU does not report what it finds in its operands.
    [Theory]
    [Trait("Device", "Cpu")]
    [InlineData(-1)]
    [InlineData(5)]
    [InlineData(-101)]
    public void A_label_outside_the_vocabulary_is_named(int label)
    {
        using GuardedTensor logits = new RandomTensors(3).Normal([2, 5], DType.F32);
        using GuardedTensor labels = GuardedTensor.From([0, label], [2]);
        using GuardedTensor losses = GuardedTensor.Empty([2], DType.F32);
        var error = Assert.Throws<ArgumentOutOfRangeException>(() => CrossEntropy.Forward(logits, labels, losses, null, 1));
        Assert.Contains($"label {label} of row 1 is neither from 0 to 4 nor -100", error.Message);
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void Threads_do_not_change_the_bits(DType dtype) => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        var random = new RandomTensors(4);
        GuardedTensor logits = random.Normal([67, 1501], dtype);
        using GuardedTensor labels = random.Integers([67], 0, 1501);
        GuardedTensor losses = GuardedTensor.Empty([67], DType.F32);
        CrossEntropy.Forward(logits, labels, losses, logits, 0.1f);
        return [losses, logits];
    });
}
