using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class AdamWTests
{
    private static readonly AdamWStep s_step = new(3e-3, 0.9, 0.999, 1e-8, 0.01, 1, 0.7);

    /// <summary>
    /// The formula one scalar operation at a time, in the compute type: the bits have to agree. A GPU's compiler fuses
    /// products and sums where it likes.
    /// </summary>
    [Theory]
    [Trait("Device", "Cpu")]
    [InlineData(0.9)]
    [InlineData(0.3)]
    public void Three_steps_give_the_bits_of_the_scalar_formula(double beta1)
    {
        var random = new RandomTensors(1);
        const int Count = 1000 + 37;
        using GuardedTensor p = random.Normal([Count], DType.F32);
        using GuardedTensor g = random.Normal([Count], DType.F32);
        using GuardedTensor m = GuardedTensor.From(new double[Count], [Count], DType.F32);
        using GuardedTensor v = GuardedTensor.From(new double[Count], [Count], DType.F32);
        float[] expected = Array.ConvertAll(p.ToDoubles(), x => (float)x);
        float[] gradient = Array.ConvertAll(g.ToDoubles(), x => (float)x);
        var mean = new float[Count];
        var square = new float[Count];
        for (int t = 1; t <= 3; t++)
        {
            AdamWStep s = s_step with { Step = t, Beta1 = beta1 };
            AdamW.Step([new AdamWSlot(p, g, m, v)], s);
            float weight = (float)(1 - beta1);
            float stepSize = (float)-(s.LearningRate / (1 - Math.Pow(beta1, t)));
            float root = (float)Math.Sqrt(1 - Math.Pow(s.Beta2, t));
            for (int i = 0; i < Count; i++)
            {
                float x = gradient[i] * (float)s.GradientScale;
                expected[i] *= (float)(1 - (s.LearningRate * s.WeightDecay));
                mean[i] = weight < 0.5f ? mean[i] + ((x - mean[i]) * weight) : x - ((x - mean[i]) * (float)beta1);
                square[i] *= (float)s.Beta2;
                square[i] += x * (float)(1 - s.Beta2) * x;
                float denominator = (MathF.Sqrt(square[i]) / root) + (float)s.Epsilon;
                expected[i] += mean[i] * stepSize / denominator;
            }
        }

        p.AssertGuards();
        m.AssertGuards();
        v.AssertGuards();
        Assert.Equal(expected, Array.ConvertAll(p.ToDoubles(), x => (float)x));
        Assert.Equal(mean, Array.ConvertAll(m.ToDoubles(), x => (float)x));
        Assert.Equal(square, Array.ConvertAll(v.ToDoubles(), x => (float)x));
    }

    [Theory]
    [MemberData(nameof(KernelAssert.FloatTypes), MemberType = typeof(KernelAssert))]
    public void One_step_matches_the_formula_in_double(DType dtype)
    {
        DType state = dtype == DType.F64 ? DType.F64 : DType.F32;
        foreach (bool withMaster in new[] { false, true })
        {
            foreach (int count in new[] { 0, 1, 5, 1025, 40000 })
            {
                var op = new AdamWCase(count, dtype, withMaster);
                var random = new RandomTensors(2);
                using GuardedTensor p = random.Normal([count], dtype);
                using GuardedTensor g = random.Normal([count], dtype);
                using GuardedTensor m = random.Normal([count], state, 0.1);
                using GuardedTensor v = GuardedTensor.From(
                    Array.ConvertAll(random.Values(count), x => x * x), [count], state);
                using GuardedTensor? master = withMaster ? random.Normal([count], state) : null;
                AdamWStep s = s_step with { Step = 7 };
                double[] p0 = (master ?? p).ToDoubles();
                double[] g0 = g.ToDoubles();
                double[] m0 = m.ToDoubles();
                double[] v0 = v.ToDoubles();
                AdamW.Step([new AdamWSlot(p, g, m, v, master?.Tensor)], s);

                var exact = new double[count];
                var magnitude = new double[count];
                for (int i = 0; i < count; i++)
                {
                    double x = g0[i] * s.GradientScale;
                    double mean = m0[i] + ((1 - s.Beta1) * (x - m0[i]));
                    double square = (v0[i] * s.Beta2) + ((1 - s.Beta2) * x * x);
                    double denominator = (Math.Sqrt(square) / Math.Sqrt(1 - Math.Pow(s.Beta2, 7))) + s.Epsilon;
                    double size = s.LearningRate / (1 - Math.Pow(s.Beta1, 7));
                    exact[i] = (p0[i] * (1 - (s.LearningRate * s.WeightDecay))) - (size * mean / denominator);

                    // The mean's own terms may cancel: its magnitude counts |m| + |g − m|, not |m′|.
                    magnitude[i] = Math.Abs(p0[i]) + (size * (Math.Abs(m0[i]) + Math.Abs(x)) / denominator);
                }

                KernelAssert.Close(op, exact, p, magnitude);
                m.AssertGuards();
                v.AssertGuards();
                if (master is not null)
                {
                    KernelAssert.Close(op, exact, master, magnitude);
                    using GuardedTensor rounded = GuardedTensor.From(master.ToDoubles(), [count], dtype);
                    Assert.Equal(rounded.ToBytes(), p.ToBytes());
                }
            }
        }
    }

    [Fact]
    public void Many_slots_in_one_call_equal_one_call_each_and_any_thread_count() =>
        KernelAssert.SameBitsForEveryThreadCount(() =>
        {
            int[] sizes = [0, 70000, 1, 0, 0, 16384, 16385, 3, 0];
            List<GuardedTensor> together = Slots(sizes, out AdamWSlot[] slots);
            List<GuardedTensor> apart = Slots(sizes, out AdamWSlot[] single);
            AdamW.Step(slots, s_step);
            foreach (AdamWSlot slot in single)
            {
                AdamW.Step([slot], s_step);
            }

            for (int i = 0; i < together.Count; i++)
            {
                Assert.Equal(apart[i].ToBytes(), together[i].ToBytes());
                apart[i].Dispose();
            }

            return [.. together];
        });

    [Theory]
    [MemberData(nameof(KernelAssert.FloatTypes), MemberType = typeof(KernelAssert))]
    public void Gradient_norm_is_the_norm_of_all_elements(DType dtype)
    {
        var random = new RandomTensors(3);
        GuardedTensor[] tensors = [.. new[] { 1, 0, 17, 40001 }.Select(n => random.Normal([n], dtype))];
        double expected = Math.Sqrt(tensors.Sum(t => t.ToDoubles().Sum(x => x * x)));
        double actual = GradientNorm.Compute([.. tensors.Select(t => t.Tensor)]);
        var op = new GradientNormCase(tensors.Sum(t => t.Tensor.Elements), dtype);

        // The reference sums in double too: twice the bound.
        Assert.True(Math.Abs(actual - expected) <= 2 * op.Error(dtype).Allowed(expected, expected));
        Assert.Equal(0.0, GradientNorm.Compute([]));
        using GuardedTensor stored = GuardedTensor.Empty([1], DType.F64);
        GradientNorm.Compute([.. tensors.Select(t => t.Tensor)], stored);
        stored.AssertGuards();
        Assert.Equal(actual, stored.ToDoubles()[0]);
        GradientNorm.Compute([], stored);
        Assert.Equal(0, stored.ToDoubles()[0]);
        Assert.Equal(1.0, GradientNorm.ClipScale(0.5, 1));
        Assert.Equal(2 / (8 + 1e-6), GradientNorm.ClipScale(8, 2));
        foreach (GuardedTensor tensor in tensors)
        {
            tensor.Dispose();
        }
    }

    [Fact]
    public void Gradient_norm_does_not_depend_on_the_thread_count_and_shows_nan() =>
        KernelAssert.SameBitsForEveryThreadCount(() =>
        {
            using GuardedTensor g = new RandomTensors(4).Normal([100_000], DType.F32);
            double norm = GradientNorm.Compute([g]);
            using GuardedTensor bad = GuardedTensor.From([1, double.NaN, 2], [3], DType.F32);
            Assert.True(double.IsNaN(GradientNorm.Compute([g, bad])));
            return [GuardedTensor.From([norm], [1], DType.F64)];
        });

    [Fact]
    public void Arguments_that_do_not_fit_are_named()
    {
        using Tensor p = Tensor.Zeros([3], DType.BF16, TestDevice.Current);
        using Tensor s = Tensor.Zeros([3], DType.F32, TestDevice.Current);
        Assert.Contains("SecondMoment", Assert.Throws<ArgumentException>(() => AdamW.Step([new(p, p, s, p)], s_step)).Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => AdamW.Step([new(p, p, s, s)], s_step with { Step = 0 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => AdamW.Step([new(p, p, s, s)], s_step with { Beta2 = 1 }));
    }

    private static List<GuardedTensor> Slots(int[] sizes, out AdamWSlot[] slots)
    {
        var random = new RandomTensors(5);
        var all = new List<GuardedTensor>();
        slots = new AdamWSlot[sizes.Length];
        for (int i = 0; i < sizes.Length; i++)
        {
            Shape shape = [sizes[i]];
            GuardedTensor p = random.Normal(shape, i % 2 == 0 ? DType.F32 : DType.BF16);
            GuardedTensor g = random.Normal(shape, DType.F32);
            GuardedTensor m = random.Normal(shape, DType.F32);
            GuardedTensor v = GuardedTensor.From(Array.ConvertAll(random.Values(sizes[i]), Math.Abs), shape, DType.F32);
            all.AddRange([p, g, m, v]);
            slots[i] = new AdamWSlot(p, g, m, v);
        }

        return all;
    }
}
