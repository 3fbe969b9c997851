using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>The gradient of A of linears that read a norm's result, from the norm's input.</summary>
[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class LowRankNormedTests
{
    /// <summary>Dtype, R, K, then outputs and rank of each linear, a gap between the rows of dS, LayerNorm.</summary>
    public static TheoryData<DType, int, int, int[], int, bool> Cases
    {
        get
        {
            var data = new TheoryData<DType, int, int, int[], int, bool>();
            foreach (bool centered in new[] { false, true })
            {
                foreach (DType dtype in KernelAssert.FloatTypes)
                {
                    data.Add(dtype, 37, 65, [43, 8], 0, centered);
                    data.Add(dtype, 0, 16, [8, 4], 0, centered);
                    data.Add(dtype, 1, 24, [8, 4], 0, centered);
                    data.Add(dtype, 70, 72, [40, 3, 24, 0, 16, 16], 8, centered);
                    data.Add(dtype, 64, 128, [64, 80], 0, centered);
                }

                // Each width of the kernels, several blocks of rows and columns.
                foreach (DType dtype in TestDevice.FloatTypes.Where(static t => t is DType.BF16 or DType.F16))
                {
                    data.Add(dtype, 33, 264, [16, 5], 0, centered);
                    data.Add(dtype, 2100, 136, [24, 16], 8, centered);
                    data.Add(dtype, 130, 1032, [16, 32], 64, centered);
                    data.Add(dtype, 97, 200, [40, 40], 16, centered);
                    data.Add(dtype, 150, 136, [16, 16, 16, 8, 8, 24], 8, centered);
                    data.Add(dtype, 1100, 136, [8, 64], 8, centered);
                    data.Add(dtype, 31, 72, [8, 3, 8, 9], 0, centered);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Gradients_are_those_of_the_norms_result(DType dtype, int rows, int columns, int[] linears, int gap, bool centered)
    {
        using var problem = new Problem(dtype, rows, columns, linears, gap, centered, mean: 0.5);
        problem.Check(problem.Norm);
    }

    // Rows far from zero, and a few channels far from the others, as GPT-2's residual stream has them.
    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void What_cancels_between_the_sums_is_within_the_bound(DType dtype)
    {
        using var problem = new Problem(dtype, 200, 136, [16, 16], gap: 8, centered: true, mean: 40, loud: 3000);
        problem.Check(problem.Norm);
    }

    [Fact]
    public void A_norm_may_have_no_bias_and_weights_of_another_dtype()
    {
        using var problem = new Problem(DType.BF16, 70, 136, [16, 16], gap: 8, centered: true, mean: 0.5);
        using GuardedTensor weight = new RandomTensors(43).Normal([136], DType.F32, mean: 1);
        problem.Check(problem.Norm with { Weight = weight, Bias = null });
    }

    // Where the norm's result is formed again nothing can tell that it was not kept.
    [Theory]
    [InlineData(DType.F32)]
    [DoubleData(DType.F64)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    [Trait("Device", "Cpu")]
    public void The_cpu_has_the_bits_of_the_norms_result(DType dtype)
    {
        foreach (bool centered in new[] { false, true })
        {
            using var problem = new Problem(dtype, 70, 136, [16, 16], gap: 8, centered, mean: 0.5);
            using GuardedTensor kept = GuardedTensor.Empty([70, 136], dtype, rowGap: 64);
            using GuardedTensor mean = GuardedTensor.Empty([70], problem.Norm.Rstd.DType);
            using GuardedTensor rstd = GuardedTensor.Empty([70], problem.Norm.Rstd.DType);
            if (centered)
            {
                LayerNorm.Forward(problem.Norm.X, problem.Norm.Weight, problem.Norm.Bias, problem.Norm.Epsilon, kept, mean, rstd);
            }
            else
            {
                RmsNorm.Forward(problem.Norm.X, problem.Norm.Weight, problem.Norm.Epsilon, kept, rstd);
            }

            using GuardedTensor expected = problem.Gradients(filled: false)[0];
            using GuardedTensor actual = problem.Gradients(filled: false)[0];
            LowRank.GradientX(kept, problem.Stack.Weight, problem.Ds, [expected]);
            LowRank.GradientNormed(problem.Norm, problem.Stack.Weight, problem.Ds, [actual]);
            Assert.Equal(expected.ToBytes(), actual.ToBytes());
        }
    }

    /// <summary>Dtype, R, K, then outputs and rank of each linear, LayerNorm, whether a GPU forms F beside dS.</summary>
    public static TheoryData<DType, int, int, int[], bool, bool> Scaled
    {
        get
        {
            var data = new TheoryData<DType, int, int, int[], bool, bool>();
            foreach (bool centered in new[] { false, true })
            {
                foreach (DType dtype in TestDevice.FloatTypes)
                {
                    bool beside = dtype == DType.BF16;
                    data.Add(dtype, 70, 72, [40, 3, 24, 0, 16, 16], centered, beside);
                    data.Add(dtype, 1, 24, [8, 4], centered, beside);
                    data.Add(dtype, 0, 16, [8, 4], centered, false);
                    data.Add(dtype, 33, 65, [43, 8], centered, false);
                    data.Add(dtype, 64, 128, [64, 64], centered, false);
                }

                // Several blocks of columns; more ranges of rows than blocks that form sums.
                foreach (DType dtype in TestDevice.FloatTypes.Where(static t => t == DType.BF16))
                {
                    data.Add(dtype, 150, 136, [1104, 16, 24, 9], centered, true);
                    data.Add(dtype, 333, 136, [264, 32, 24, 0, 16, 3], centered, true);
                    data.Add(dtype, 2100, 72, [40, 8, 16, 3], centered, true);
                    data.Add(dtype, 4300, 40, [24, 16, 24, 9, 40, 32], centered, true);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Scaled))]
    public void What_is_scaled_beside_dS_is_what_a_launch_of_its_own_makes(
        DType dtype, int rows, int columns, int[] linears, bool centered, bool beside)
    {
        using var problem = new Problem(dtype, rows, columns, linears, gap: 0, centered, mean: 0.5);
        BorderedWeight weight = problem.Stack.Weight;

        // The gradients are aligned, so the norm's input is to be.
        using Tensor x = Tensor.Empty([rows, columns], dtype, TestDevice.Current);
        Copy.Run(problem.Norm.X, x);
        NormedInput norm = problem.Norm with { X = x };
        using Tensor s = LowRankTests.Bordered(new RandomTensors(44), rows, weight.Width, weight);
        GuardedTensor[] dB = Up(), expected = Up();
        using Tensor dy = LowRankTests.Bordered(new RandomTensors(45), rows, weight.Outputs, weight);
        using Tensor same = LowRankTests.Bordered(new RandomTensors(45), rows, weight.Outputs, weight);
        using Tensor ds = dy.BorderColumns(weight.Width);
        using Tensor plain = same.BorderColumns(weight.Width);
        LowRank.GradientY(same, weight, s, [.. expected.Select(static t => t.Tensor)]);
        using ScaledGradient? scaled = LowRank.GradientYNormed(dy, weight, s, [.. dB.Select(static t => t.Tensor)], norm);
        Assert.Equal(plain.ToDoubles(), ds.ToDoubles());
        Assert.Equal(expected.SelectMany(static t => t.ToBytes()), dB.SelectMany(static t => t.ToBytes()));
        Assert.Equal(beside && TestDevice.IsCuda, scaled is not null);
        if (scaled is not null)
        {
            using ScaledGradient own = LowRankCuda.Scale(norm, weight, ds);
            Assert.Equal(own.Factor.ToBytes(), scaled.Factor.ToBytes());
            Assert.Equal(own.Sums is null, scaled.Sums is null);
        }

        problem.Check(norm, ds, scaled);
        Array.ForEach([.. dB, .. expected], static t => t.Dispose());

        GuardedTensor[] Up()
        {
            DType masters = dtype == DType.F64 ? DType.F64 : DType.F32;
            return [.. weight.Slots.Select(slot => GuardedTensor.From(new double[slot.Outputs * slot.Rank], [slot.Outputs, slot.Rank], masters))];
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Results_behind_dS_are_the_same_every_time(bool centered) => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        DType dtype = TestDevice.IsCuda ? DType.BF16 : DType.F32;
        using var problem = new Problem(dtype, 2300, 72, [24, 16, 40, 32], gap: 8, centered, mean: 0.5);
        BorderedWeight weight = problem.Stack.Weight;
        using Tensor x = Tensor.Empty([2300, 72], dtype, TestDevice.Current);
        Copy.Run(problem.Norm.X, x);
        NormedInput norm = problem.Norm with { X = x };
        using Tensor s = LowRankTests.Bordered(new RandomTensors(44), 2300, weight.Width, weight);
        using Tensor dy = LowRankTests.Bordered(new RandomTensors(45), 2300, weight.Outputs, weight);
        using Tensor ds = dy.BorderColumns(weight.Width);
        GuardedTensor[] dA = problem.Gradients(filled: false);
        using ScaledGradient? scaled = LowRank.GradientYNormed(dy, weight, s, [null, null], norm);
        LowRank.GradientNormed(norm, weight, ds, [.. dA.Select(static t => t.Tensor)], scaled);
        return dA;
    });

    [Fact]
    public void Results_are_the_same_every_time() => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        DType dtype = TestDevice.IsCuda ? DType.BF16 : DType.F32;
        using var problem = new Problem(dtype, 700, 520, [24, 16], gap: 8, centered: true, mean: 0.5);
        GuardedTensor dA = problem.Gradients(filled: false)[0];
        LowRank.GradientNormed(problem.Norm, problem.Stack.Weight, problem.Ds, [dA]);
        return [dA];
    });

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        using var problem = new Problem(DType.F32, 5, 16, [8, 4], gap: 0, centered: true, mean: 0);
        using GuardedTensor small = GuardedTensor.Empty([4, 16], DType.F32);
        using GuardedTensor half = GuardedTensor.Empty([5, 16], DType.BF16);
        using GuardedTensor few = GuardedTensor.Empty([4], DType.F32);
        NormedInput norm = problem.Norm;
        foreach (NormedInput wrong in new[]
        {
            norm with { X = small }, norm with { X = half }, norm with { Weight = few }, norm with { Bias = few }, norm with { Mean = few }, norm with { Rstd = few },
        })
        {
            Assert.Throws<ArgumentException>(() => LowRank.GradientNormed(wrong, problem.Stack.Weight, problem.Ds, [null]));
        }

        Assert.Throws<ArgumentException>(() => LowRank.GradientNormed(norm, problem.Stack.Weight, small, [null]));
        using Tensor s = LowRankTests.Bordered(new RandomTensors(44), 4, 8, problem.Stack.Weight);
        using Tensor dy = LowRankTests.Bordered(new RandomTensors(45), 4, 8, problem.Stack.Weight);
        Assert.Throws<ArgumentException>(() => LowRank.GradientYNormed(dy, problem.Stack.Weight, s, [null], norm));
        using var other = new ScaledGradient(Tensor.Empty([5, problem.Stack.Weight.Width], DType.F32, TestDevice.Current), null);
        Assert.Throws<ArgumentException>(() => LowRank.GradientNormed(norm, problem.Stack.Weight, problem.Ds, [null], other));
        Assert.Throws<ArgumentException>(() => LowRank.GradientNormed(norm, problem.Stack.Weight, problem.Ds, [norm.X]));
    }

    private sealed class Problem : IDisposable
    {
        private const float Epsilon = 1e-5f;
        private readonly RandomTensors _random = new(42);
        private readonly int _rows;
        private readonly int _columns;
        private readonly List<GuardedTensor> _tensors = [];

        public Problem(DType dtype, int rows, int columns, int[] linears, int gap, bool centered, double mean, double loud = 0)
        {
            (_rows, _columns) = (rows, columns);
            Stack = new AdaptedStack(dtype, columns, linears, transposed: false);
            double[] values = _random.Values(rows * columns, deviation: 2, mean: mean);
            for (int i = 0; i < values.Length; i++)
            {
                values[i] += i % columns % 50 == 7 ? loud : 0;
            }

            GuardedTensor x = Add(GuardedTensor.From(values, [rows, columns], dtype));
            (double[] means, double[] rstd) = NormReference.Statistics(x.ToDoubles(), rows, columns, Epsilon, centered);
            DType statistics = dtype == DType.F64 ? DType.F64 : DType.F32;
            Norm = new NormedInput(
                x,
                Add(_random.Normal([columns], dtype, mean: 1)),
                centered ? Add(_random.Normal([columns], dtype)).Tensor : null,
                centered ? Add(GuardedTensor.From(means, [rows], statistics)).Tensor : null,
                Add(GuardedTensor.From(rstd, [rows], statistics)),
                Epsilon);
            Ds = Add(_random.Normal([rows, Stack.Weight.Width], dtype, rowGap: gap));
        }

        public AdaptedStack Stack { get; }

        public NormedInput Norm { get; }

        public GuardedTensor Ds { get; }

        public GuardedTensor[] Gradients(bool filled)
        {
            DType dtype = Norm.Rstd.DType;
            return
            [
                .. Stack.Weight.Slots.Select(slot => filled
                    ? _random.Normal([slot.Rank, _columns], dtype)
                    : GuardedTensor.From(new double[slot.Rank * _columns], [slot.Rank, _columns], dtype)),
            ];
        }

        // Against double precision; the second linear's gradient is not wanted.
        public void Check(NormedInput norm) => Check(norm, Ds, null);

        public void Check(NormedInput norm, Tensor gradient, ScaledGradient? scaled)
        {
            BorderedWeight weight = Stack.Weight;
            GuardedTensor[] dA = Gradients(filled: true);
            double[][] before = [.. dA.Select(static t => t.ToDoubles())];
            LowRank.GradientNormed(norm, weight, gradient, [.. dA.Select((t, i) => i == 1 ? null : t.Tensor)], scaled);
            bool centered = norm.Mean is not null;
            var op = new LowRankNormedCase(_rows, _columns, weight.Width, norm.X.DType, centered);
            double[] x = norm.X.ToDoubles();
            double[] ds = gradient.ToDoubles();
            double[] w = norm.Weight.ToDoubles();
            double[] b = norm.Bias?.ToDoubles() ?? new double[_columns];

            // The statistics as they are stored: another rounding of theirs is another norm.
            double[] mean = norm.Mean?.ToDoubles() ?? new double[_rows];
            double[] rstd = norm.Rstd.ToDoubles();
            double[] size = [.. Enumerable.Range(0, _rows).Select(m => x.Skip(m * _columns).Take(_columns).Average(Math.Abs))];
            for (int i = 0; i < dA.Length; i++)
            {
                double[] exact = [.. before[i]];
                double[] magnitude = Reference.Map(exact, Math.Abs);
                for (int e = 0; e < exact.Length && i != 1; e++)
                {
                    (int j, int c) = (weight.Slots[i].At + (e / _columns), e % _columns);
                    for (int m = 0; m < _rows; m++)
                    {
                        double own = ds[(m * weight.Width) + j];
                        double f = own * rstd[m] * w[c];
                        double value = x[(m * _columns) + c];
                        exact[e] += (f * (value - mean[m])) + (own * b[c]);
                        magnitude[e] += (Math.Abs(f) * Math.Abs(value - mean[m])) + Math.Abs(own * b[c]);
                        magnitude[e] += centered ? op.CancellationShare * Math.Abs(f) * (Math.Abs(value) + size[m]) : 0;
                    }
                }

                KernelAssert.Close(op.Error(dA[i].Tensor.DType), op.Name, exact, dA[i], magnitude);
                dA[i].Dispose();
            }
        }

        public void Dispose()
        {
            Stack.Dispose();
            _tensors.ForEach(static t => t.Dispose());
        }

        private GuardedTensor Add(GuardedTensor tensor)
        {
            _tensors.Add(tensor);
            return tensor;
        }
    }
}
