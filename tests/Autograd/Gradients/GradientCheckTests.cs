using Engine.Tensors;

namespace Engine.Autograd.Tests.Gradients;

/// <summary>The gradient check tells right gradients from wrong ones. The op under test is y = x³.</summary>
[Trait("Device", "Cpu")]
public sealed class GradientCheckTests
{
    [Fact]
    public void Right_gradients_pass()
    {
        using Variable x = Input();
        (double error, _) = GradientCheck.Run((t, v) => Cube(t, v[0], (_, g) => g), x);
        Assert.InRange(error, 0, GradientCheck.Tolerance);
        Assert.Null(x.Gradient);
        Assert.Equal(Leaves.Values(15, 1), x.Value.ToArray<double>());
    }

    [Theory]
    [InlineData("zero")]
    [InlineData("sign")]
    [InlineData("slightly too large")]
    [InlineData("one element")]
    [InlineData("not a number")]
    [InlineData("neighbours exchanged")]
    public void Wrong_gradients_do_not(string mistake)
    {
        using Variable x = Input();
        (double error, string where) = GradientCheck.Run(
            (t, v) => Cube(t, v[0], (i, g) => mistake switch
            {
                "zero" => 0,
                "sign" => -g,
                "slightly too large" => g * (1 + 1e-6),
                "one element" => i == 7 ? g + 1e-6 : g,
                "not a number" => i == 7 ? double.NaN : g,
                _ => i < 2 ? g + (i == 0 ? 0.1 : -0.1) : g,
            }),
            x);
        Assert.False(error <= GradientCheck.Tolerance, $"{mistake}: {error:E2} at {where}");
        if (mistake is "one element" or "not a number")
        {
            Assert.StartsWith("input 0, element 7:", where);
        }
    }

    [Fact]
    public void A_gradient_that_never_arrives_does_not_pass()
    {
        using Variable x = Input();
        (double error, _) = GradientCheck.Run(
            (t, v) =>
            {
                using Variable cut = Tape.Constant(v[0].Value.Clone());
                using Variable y = t.Silu(cut);
                return t.Add(y, y);
            },
            x);
        Assert.True(error > 0.1);
    }

    private static Variable Input() => Leaves.Normal(Device.Cpu, [3, 5], 1);

    private static Variable Cube(Tape tape, Variable x, Func<int, double, double> mistake)
    {
        Tensor y = Tensor.From(Array.ConvertAll(x.Value.ToArray<double>(), v => v * v * v), x.Value.Shape, x.Value.Device);
        return tape.Needs(x) ? tape.Record(y, new CubeNode(x, mistake)) : Tape.Constant(y);
    }

    private sealed class CubeNode(Variable x, Func<int, double, double> mistake) : Node
    {
        public override string Name => "cube";

        protected override void Backward(Tensor gradient)
        {
            double[] values = x.Value.ToArray<double>();
            double[] dx = gradient.ToArray<double>();
            for (int i = 0; i < dx.Length; i++)
            {
                dx[i] = mistake(i, 3 * values[i] * values[i] * dx[i]);
            }

            x.AccumulateGradient(Tensor.From(dx, gradient.Shape, gradient.Device));
        }
    }
}
