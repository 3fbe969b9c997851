using System.Text.Json;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>Optimizer steps and clipping against PyTorch's.</summary>
public sealed class AdamWParityTests
{
    private static readonly ParityFixtures s_fixtures = new();

    [Theory]
    [InlineData("adamw_defaults")]
    [InlineData("adamw_changed")]
    public void Five_steps_match_the_reference_in_f32_and_f64(string name)
    {
        JsonElement o = ParityFixtures.Parameters(name);
        var step = new AdamWStep(
            o.GetProperty("lr").GetDouble(), o.GetProperty("betas")[0].GetDouble(), o.GetProperty("betas")[1].GetDouble(),
            o.GetProperty("eps").GetDouble(), o.GetProperty("weight_decay").GetDouble(), 1);
        foreach (DType dtype in new[] { DType.F32, DType.F64 }.Where(TestDevice.Supports))
        {
            double[] p0 = s_fixtures[name + ".p0"];
            Shape shape = [p0.Length];
            using GuardedTensor p = GuardedTensor.From(p0, shape, dtype);
            using GuardedTensor m = GuardedTensor.From(new double[p0.Length], shape, dtype);
            using GuardedTensor v = GuardedTensor.From(new double[p0.Length], shape, dtype);
            for (int t = 1; t <= 5; t++)
            {
                using GuardedTensor g = GuardedTensor.From(s_fixtures[$"{name}.g{t}"], shape, dtype);
                AdamW.Step([new AdamWSlot(p, g, m, v)], step with { Step = t });
                Compare($"{name}.p{t}", p);
            }

            Compare(name + ".m5", m);
            Compare(name + ".v5", v);

            void Compare(string tensor, GuardedTensor actual)
            {
                if (dtype == DType.F32)
                {
                    s_fixtures.AssertAsGoodAsReference(tensor, actual.ToDoubles());
                    return;
                }

                // Five steps of about 14 roundings each.
                double[] expected = s_fixtures[tensor + "_f64"];
                double[] values = actual.ToDoubles();
                for (int i = 0; i < expected.Length; i++)
                {
                    Assert.Equal(expected[i], values[i], 70 * Math.Pow(2, -53) * Math.Max(1e-3, Math.Abs(expected[i])));
                }
            }
        }
    }

    [Theory]
    [InlineData("clip_bites")]
    [InlineData("clip_does_not")]
    public void Norm_and_clipping_match_the_reference(string name)
    {
        double limit = ParityFixtures.Parameters(name).GetProperty("max_norm").GetDouble();
        GuardedTensor[] gradients = [.. Enumerable.Range(0, 3).Select(i =>
            GuardedTensor.From(s_fixtures[$"{name}.g{i}"], new Shape(s_fixtures.Shape($"{name}.g{i}")), DType.F32))];
        double norm = GradientNorm.Compute([.. gradients.Select(g => g.Tensor)]);

        // The reference adds 46 squares in f32 and rounds the factor to f32 before it multiplies.
        double expected = s_fixtures[name + ".norm"][0];
        Assert.Equal(expected, norm, 46 * Math.Pow(2, -24) * expected);
        double scale = GradientNorm.ClipScale(norm, limit);
        for (int i = 0; i < 3; i++)
        {
            double[] clipped = s_fixtures[$"{name}.clipped{i}"];
            double[] values = gradients[i].ToDoubles();
            for (int j = 0; j < clipped.Length; j++)
            {
                Assert.Equal(clipped[j], values[j] * scale, 50 * Math.Pow(2, -24) * Math.Abs(clipped[j]));
            }

            gradients[i].Dispose();
        }
    }
}
