using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class AdamWPlanTests
{
    private static readonly AdamWStep s_step = new(3e-3, 0.9, 0.999, 1e-8, 0.01, 1);

    private enum Part
    {
        Parameter,
        Gradient,
        FirstMoment,
        SecondMoment,
        Master,
    }

    /// <summary>Whether the limit is far below the norm, above it, or absent.</summary>
    [Theory]
    [InlineData(0.25, 1)]
    [InlineData(1e9, 1)]
    [InlineData(null, 1)]
    [InlineData(0.25, 0.5)]
    public void Three_runs_give_the_bits_of_the_ops_one_by_one(double? clip, double gradientScale)
    {
        using var planned = new Slots();
        using var single = new Slots();
        using AdamWPlan plan = AdamWPlan.Create(planned.All);
        for (int t = 1; t <= 3; t++)
        {
            planned.FillGradients(t);
            single.FillGradients(t);
            AdamWStep step = s_step with { Step = t, GradientScale = gradientScale };
            plan.SetStep(in step, clip);
            plan.Run(null);

            double norm = GradientNorm.Compute([.. single.All.Select(s => s.Gradient)]);
            double factor = clip is { } limit ? GradientNorm.ClipScale(norm, limit) : 1;
            AdamW.Step(single.All, step with { GradientScale = gradientScale * factor });
            Assert.Equal(norm, plan.Norm.ToArray<double>()[0]);
            foreach (Part part in new[] { Part.Parameter, Part.FirstMoment, Part.SecondMoment, Part.Master })
            {
                Assert.Equal(single.Bytes(part), planned.Bytes(part));
            }

            Assert.DoesNotContain(planned.Bytes(Part.Gradient), b => b != 0);
        }

        planned.AssertGuards();
    }

    [Theory]
    [InlineData(double.NaN, 1, DType.F32)]
    [InlineData(double.PositiveInfinity, 1, DType.F32)]
    [InlineData(0.5, double.NaN, DType.F32)]
    [DoubleData(0.5, double.PositiveInfinity, DType.F64)]
    [DoubleData(0.5, double.NegativeInfinity, DType.F64)]
    public void A_norm_or_loss_that_is_not_finite_updates_nothing_and_clears_the_gradients(
        double gradient, double lossValue, DType lossType)
    {
        using var slots = new Slots();
        using AdamWPlan plan = AdamWPlan.Create(slots.All);
        using GuardedTensor loss = GuardedTensor.From([lossValue], [1], lossType);
        slots.FillGradients(1, gradient);
        Dictionary<Part, byte[]> before = Enum.GetValues<Part>().ToDictionary(p => p, slots.Bytes);
        plan.SetStep(in s_step, 1);
        plan.Run(loss);
        foreach (Part part in new[] { Part.Parameter, Part.FirstMoment, Part.SecondMoment, Part.Master })
        {
            Assert.Equal(before[part], slots.Bytes(part));
        }

        Assert.DoesNotContain(slots.Bytes(Part.Gradient), b => b != 0);
        Assert.Equal(double.IsFinite(gradient), double.IsFinite(plan.Norm.ToArray<double>()[0]));

        // A finite pair goes through again.
        slots.FillGradients(2);
        plan.SetStep(in s_step, 1);
        using GuardedTensor finite = GuardedTensor.From([2], [1], lossType);
        plan.Run(finite);
        Assert.NotEqual(before[Part.Parameter], slots.Bytes(Part.Parameter));
    }

    [Fact]
    public void A_warm_step_allocates_nothing()
    {
        using var slots = new Slots();
        using AdamWPlan plan = AdamWPlan.Create(slots.All);
        int before = CpuParallel.ThreadCount;
        try
        {
            CpuParallel.ThreadCount = 1;
            Step();
            Step();
            Assert.Equal(0, Allocated.By(Step));
        }
        finally
        {
            CpuParallel.ThreadCount = before;
        }

        void Step()
        {
            plan.SetStep(in s_step, 1);
            plan.Run(null);
        }
    }

    [Fact]
    public void Arguments_that_do_not_fit_are_named()
    {
        using var slots = new Slots();
        using AdamWPlan plan = AdamWPlan.Create(slots.All);
        using Tensor half = Tensor.Zeros([1], DType.BF16, TestDevice.Current);
        using Tensor two = Tensor.Zeros([2], DType.F32, TestDevice.Current);
        Assert.Contains("SetStep", Assert.Throws<InvalidOperationException>(() => plan.Run(null)).Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => plan.SetStep(s_step with { Step = 0 }, null));
        Assert.Throws<ArgumentOutOfRangeException>(() => plan.SetStep(s_step with { Beta1 = 1 }, null));
        Assert.Throws<ArgumentOutOfRangeException>(() => plan.SetStep(in s_step, double.NaN));
        Assert.Throws<ArgumentOutOfRangeException>(() => plan.SetStep(in s_step, -1));
        plan.SetStep(in s_step, null);
        Assert.Contains("loss has to be f32 or f64", Assert.Throws<ArgumentException>(() => plan.Run(half)).Message);
        Assert.Contains("loss has to have 1 elements", Assert.Throws<ArgumentException>(() => plan.Run(two)).Message);
        Assert.Contains("empty", Assert.Throws<ArgumentException>(() => AdamWPlan.Create([])).Message);
        AdamWSlot bad = slots.All[0] with { SecondMoment = two };
        Assert.Contains("SecondMoment", Assert.Throws<ArgumentException>(() => AdamWPlan.Create([bad])).Message);
    }

    /// <summary>Slots of every mixture of dtypes and of sizes around the chunks'; the same content each time.</summary>
    private sealed class Slots : IDisposable
    {
        private readonly Dictionary<Part, List<GuardedTensor>> _tensors = Enum.GetValues<Part>().ToDictionary(p => p, _ => new List<GuardedTensor>());

        public Slots()
        {
            var random = new RandomTensors(1);
            (int Size, DType Parameter, DType Gradient, bool Master)[] layout =
            [
                (0, DType.F32, DType.F32, false),
                (40_001, DType.F32, DType.F32, false),
                (1, DType.BF16, DType.F32, true),
                (16_384, DType.BF16, DType.BF16, true),
                (4097, DType.F16, DType.F32, false),
                (333, DType.F64, DType.F64, false),
            ];
            foreach ((int size, DType parameter, DType gradient, bool withMaster) in layout.Where(slot => TestDevice.Supports(slot.Parameter)))
            {
                DType state = Check.Statistics(parameter);
                GuardedTensor p = Add(Part.Parameter, random.Normal([size], parameter));
                GuardedTensor g = Add(Part.Gradient, GuardedTensor.Empty([size], gradient));
                GuardedTensor m = Add(Part.FirstMoment, GuardedTensor.From(new double[size], [size], state));
                GuardedTensor v = Add(Part.SecondMoment, GuardedTensor.From(new double[size], [size], state));
                Tensor? master = withMaster ? Add(Part.Master, GuardedTensor.From(p.ToDoubles(), [size], state)).Tensor : null;
                All.Add(new AdamWSlot(p, g, m, v, master));
            }

            FillGradients(0);
        }

        public List<AdamWSlot> All { get; } = [];

        /// <summary>Random gradients; the last element of the last slot is <paramref name="last"/>.</summary>
        public void FillGradients(int seed, double last = 0.5)
        {
            var random = new RandomTensors(100 + seed);
            for (int i = 0; i < All.Count; i++)
            {
                Tensor gradient = All[i].Gradient;
                double[] values = random.Values(gradient.Elements);
                if (i == All.Count - 1)
                {
                    values[^1] = last;
                }

                using GuardedTensor source = GuardedTensor.From(values, gradient.Shape, gradient.DType);
                Copy.Run(source, gradient);
            }
        }

        public byte[] Bytes(Part part) => [.. _tensors[part].SelectMany(t => t.ToBytes())];

        public void AssertGuards() => _tensors.Values.SelectMany(t => t).ToList().ForEach(t => t.AssertGuards());

        public void Dispose() => _tensors.Values.SelectMany(t => t).ToList().ForEach(t => t.Dispose());

        private GuardedTensor Add(Part part, GuardedTensor tensor)
        {
            _tensors[part].Add(tensor);
            return tensor;
        }
    }
}
