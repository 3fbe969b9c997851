using System.Text.Json;
using Engine.Kernels;
using Engine.Kernels.Tests;
using Engine.Tensors;

namespace Engine.Autograd.Tests.Optimizers;

/// <summary>The optimizer against PyTorch's, its masters for 16-bit parameters, its state.</summary>
public sealed class AdamWOptimizerTests
{
    private static readonly ParityFixtures s_fixtures = new();

    [Fact]
    public void Defaults_are_the_references()
    {
        JsonElement o = ParityFixtures.Parameters("adamw_defaults");
        var expected = new AdamWOptions(
            o.GetProperty("betas")[0].GetDouble(), o.GetProperty("betas")[1].GetDouble(),
            o.GetProperty("eps").GetDouble(), o.GetProperty("weight_decay").GetDouble());
        Assert.Equal(expected, new AdamWOptions());
    }

    [Theory]
    [InlineData("adamw_defaults")]
    [InlineData("adamw_changed")]
    public void Five_steps_match_the_reference(string name)
    {
        JsonElement o = ParityFixtures.Parameters(name);
        using Variable p = Parameter(s_fixtures[name + ".p0"], DType.F32, "p");
        using var optimizer = new AdamWOptimizer([p], new AdamWOptions(
            o.GetProperty("betas")[0].GetDouble(), o.GetProperty("betas")[1].GetDouble(),
            o.GetProperty("eps").GetDouble(), o.GetProperty("weight_decay").GetDouble()));
        for (int t = 1; t <= 5; t++)
        {
            p.AccumulateGradient(Make(s_fixtures[$"{name}.g{t}"], DType.F32));
            optimizer.Step(o.GetProperty("lr").GetDouble());
            Assert.Equal(t, optimizer.Steps);
            Assert.Null(p.Gradient);
            s_fixtures.AssertAsGoodAsReference($"{name}.p{t}", p.Value.ToDoubles());
        }

        Dictionary<string, Tensor> state = optimizer.State().ToDictionary(s => s.Name, s => s.Tensor);
        Assert.Equal(["p#exp_avg", "p#exp_avg_sq"], state.Keys);
        Assert.Equal(2 * 4 * p.Value.Elements, optimizer.StateBytes);
        s_fixtures.AssertAsGoodAsReference(name + ".m5", state["p#exp_avg"].ToDoubles());
        s_fixtures.AssertAsGoodAsReference(name + ".v5", state["p#exp_avg_sq"].ToDoubles());
    }

    [Theory]
    [InlineData("clip_bites")]
    [InlineData("clip_does_not")]
    public void Norm_and_coefficient_match_the_reference(string name)
    {
        double limit = ParityFixtures.Parameters(name).GetProperty("max_norm").GetDouble();
        Variable[] parameters = [.. Enumerable.Range(0, 4).Select(i => Parameter(new double[s_fixtures[$"{name}.g{i % 3}"].Length], DType.F32, $"p{i}"))];
        using var optimizer = new AdamWOptimizer(parameters, new AdamWOptions());
        for (int i = 0; i < 3; i++)
        {
            // The fourth parameter has no gradient and counts as zero.
            parameters[i].AccumulateGradient(Make(s_fixtures[$"{name}.g{i}"], DType.F32));
        }

        double norm = optimizer.GradientNorm();
        double expected = s_fixtures[name + ".norm"][0];

        // The reference adds 46 squares in f32, takes roots in f32 and rounds the factor to f32 before it multiplies.
        Assert.Equal(expected, norm, 46 * Math.Pow(2, -24) * expected);
        double coefficient = AdamWOptimizer.ClipCoefficient(norm, limit);
        Assert.Equal(name == "clip_bites", coefficient < 1);
        for (int i = 0; i < 3; i++)
        {
            double[] clipped = s_fixtures[$"{name}.clipped{i}"];
            double[] gradient = s_fixtures[$"{name}.g{i}"];
            for (int j = 0; j < clipped.Length; j++)
            {
                Assert.Equal(clipped[j], gradient[j] * coefficient, 50 * Math.Pow(2, -24) * Math.Abs(clipped[j]));
            }
        }

        Array.ForEach(parameters, p => p.Dispose());
    }

    [Fact]
    public void Without_a_limit_nothing_is_clipped()
    {
        Assert.Equal(1, AdamWOptimizer.ClipCoefficient(1e9, null));
        Assert.Equal(1, AdamWOptimizer.ClipCoefficient(0, 1));
        Assert.Equal(2 / (8 + 1e-6), AdamWOptimizer.ClipCoefficient(8, 2));
    }

    [Fact]
    public void The_gradient_scale_acts_as_scaled_gradients_would()
    {
        double[] start = Leaves.Values(21, 1);
        double[] gradient = Leaves.Values(21, 2);
        using Variable scaled = Parameter(start, DType.F32, "p");
        using Variable plain = Parameter(start, DType.F32, "p");
        using var first = new AdamWOptimizer([scaled], new AdamWOptions());
        using var second = new AdamWOptimizer([plain], new AdamWOptions());
        for (int t = 0; t < 3; t++)
        {
            scaled.AccumulateGradient(Make(gradient, DType.F32));
            plain.AccumulateGradient(Make(Array.ConvertAll(gradient, g => 0.25 * g), DType.F32));
            first.Step(0.01, 0.25);
            second.Step(0.01);
        }

        Assert.Equal(plain.Value.ToArray<float>(), scaled.Value.ToArray<float>());
    }

    [Fact]
    public void A_parameter_without_a_gradient_stays_as_it_is()
    {
        using Variable idle = Parameter(Leaves.Values(9, 1), DType.F32, "idle");
        using Variable busy = Parameter(Leaves.Values(9, 2), DType.F32, "busy");
        float[] before = idle.Value.ToArray<float>();
        float[] busyBefore = busy.Value.ToArray<float>();
        using var optimizer = new AdamWOptimizer([idle, busy], new AdamWOptions(WeightDecay: 0.5));
        busy.AccumulateGradient(Make(Leaves.Values(9, 3), DType.F32));
        optimizer.Step(0.1);
        Assert.Equal(before, idle.Value.ToArray<float>());
        Assert.NotEqual(busyBefore, busy.Value.ToArray<float>());
    }

    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void Sixteen_bit_parameters_follow_an_f32_master(DType dtype)
    {
        // Steps of 1e-4 on weights of order one: a bf16 weight alone, with 8 bits, would never move.
        using Variable half = Parameter(Leaves.Values(33, 1), dtype, "p");
        using Variable single = Parameter(half.Value.ToDoubles(), DType.F32, "p");
        double[] before = half.Value.ToDoubles();
        using var optimizer = new AdamWOptimizer([half], new AdamWOptions());
        using var reference = new AdamWOptimizer([single], new AdamWOptions());
        for (int t = 0; t < 100; t++)
        {
            using Tensor gradient = Make(Leaves.Values(33, 50), dtype);
            half.AccumulateGradient(gradient.Share());
            single.AccumulateGradient(Make(gradient.ToDoubles(), DType.F32));
            optimizer.Step(1e-4);
            reference.Step(1e-4);
        }

        Dictionary<string, Tensor> state = optimizer.State().ToDictionary(s => s.Name, s => s.Tensor);
        Assert.Equal(["p#exp_avg", "p#exp_avg_sq", "p#master"], state.Keys);
        Assert.All(state.Values, tensor => Assert.Equal(DType.F32, tensor.DType));
        Assert.Equal(single.Value.ToArray<float>(), state["p#master"].ToArray<float>());
        using Tensor rounded = single.Value.EmptyLike(dtype);
        Cast.Run(single.Value, rounded);
        Assert.Equal(rounded.ToDoubles(), half.Value.ToDoubles());
        Assert.NotEqual(before, half.Value.ToDoubles());
    }

    [Fact]
    public void State_under_its_names_continues_bit_for_bit()
    {
        using Variable a = Parameter(Leaves.Values(10, 1), DType.F32, "a");
        using Variable b = Parameter(Leaves.Values(7, 2), DType.BF16, "b");
        using var first = new AdamWOptimizer([a, b], new AdamWOptions());
        Steps(first, [a, b], 0, 3);
        using var a2 = new Variable(a.Value.Clone(), requiresGrad: true, "a");
        using var b2 = new Variable(b.Value.Clone(), requiresGrad: true, "b");
        using var second = new AdamWOptimizer([b2, a2], new AdamWOptions());
        Dictionary<string, Tensor> saved = first.State().ToDictionary(s => s.Name, s => s.Tensor);
        Assert.Equal(5, saved.Count);
        foreach ((string name, Tensor tensor) in second.State())
        {
            Copy.Run(saved[name], tensor);
        }

        second.Restore(first.Steps);
        Steps(first, [a, b], 3, 3);
        Steps(second, [a2, b2], 3, 3);
        Assert.Equal(a.Value.ToBytes(), a2.Value.ToBytes());
        Assert.Equal(b.Value.ToBytes(), b2.Value.ToBytes());
        Assert.Equal(6, second.Steps);
    }

    [Fact]
    public void A_parameter_without_a_name_cannot_be_saved()
    {
        using Variable nameless = new(Tensor.Zeros([2], DType.F32, TestDevice.Current), requiresGrad: true);
        using var optimizer = new AdamWOptimizer([nameless], new AdamWOptions());
        Assert.Throws<InvalidOperationException>(() => optimizer.State().ToList());
    }

    [Fact]
    public void Nothing_is_left_when_all_is_disposed()
    {
        var device = new CountedDevice();
        using (Variable a = Leaves.Single(device, [5, 3], 1))
        using (Variable b = new(Tensor.Zeros([4], DType.BF16, device), requiresGrad: true, "b"))
        using (var optimizer = new AdamWOptimizer([a, b], new AdamWOptions()))
        {
            a.AccumulateGradient(Tensor.Zeros([5, 3], DType.F32, device));
            b.AccumulateGradient(Tensor.Zeros([4], DType.BF16, device));
            optimizer.Step(0.1);
        }

        Assert.Equal(0, device.LiveStorages);
    }

    private static void Steps(AdamWOptimizer optimizer, Variable[] parameters, int from, int count)
    {
        for (int t = from; t < from + count; t++)
        {
            foreach (Variable parameter in parameters)
            {
                ulong seed = (ulong)(100 + t) + RandomNumbers.StreamOf(parameter.Name!);
                parameter.AccumulateGradient(Make(Leaves.Values(parameter.Value.Elements, seed), parameter.Value.DType));
            }

            optimizer.Step(0.01);
        }
    }

    private static Variable Parameter(double[] values, DType dtype, string name) => new(Make(values, dtype), requiresGrad: true, name);

    private static Tensor Make(double[] values, DType dtype)
    {
        using Tensor single = Tensor.From(Array.ConvertAll(values, x => (float)x), [values.Length], TestDevice.Current);
        Tensor result = single.EmptyLike(dtype);
        Cast.Run(single, result);
        return result;
    }
}
