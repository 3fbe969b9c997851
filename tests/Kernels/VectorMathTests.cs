using System.Numerics;
using System.Runtime.Intrinsics;
using Engine.Kernels.Cpu;

namespace Engine.Kernels.Tests;

[Trait("Device", "Cpu")]
public sealed class VectorMathTests
{
    private const double U = 1.0 / (1 << 24);

    [Fact]
    public void Exp_of_floats_is_within_its_bound_over_the_whole_range()
    {
        double worst = 0;
        for (int i = 0; i <= 400_000; i++)
        {
            float x = -87f + (i * (175.7f / 400_000));
            double exact = Math.Exp(x);
            double error = Math.Abs(VectorMath.Exp(new Vector<float>(x))[0] - exact) / exact;
            worst = Math.Max(worst, error);
        }

        Assert.InRange(worst / U, 0, VectorMath.ExpRoundings);
    }

    [Theory]
    [InlineData(float.NegativeInfinity, 0)]
    [InlineData(-200f, 0)]
    [InlineData(0f, 1)]
    [InlineData(89f, float.PositiveInfinity)]
    [InlineData(1e30f, float.PositiveInfinity)]
    [InlineData(float.PositiveInfinity, float.PositiveInfinity)]
    [InlineData(float.NaN, float.NaN)]
    public void Exp_of_floats_at_the_ends(float x, float expected) =>
        Assert.Equal(expected, VectorMath.Exp(new Vector<float>(x))[0]);

    [Fact]
    public void Exp_of_floats_reaches_subnormal_results()
    {
        for (float x = -103f; x < -87f; x += 0.37f)
        {
            // Relative error of the value before it is made subnormal, then half a unit of 2^-149.
            double exact = Math.Exp(x);
            double error = Math.Abs(VectorMath.Exp(new Vector<float>(x))[0] - exact);
            Assert.InRange(error, 0, (VectorMath.ExpRoundings * U * exact) + double.ScaleB(1, -150));
        }
    }

    [Fact]
    public void Exp_of_doubles_is_within_its_bound()
    {
        for (int i = 0; i <= 100_000; i++)
        {
            double x = -700 + (i * 0.014);
            double exact = Math.Exp(x);

            // Math.Exp itself may be off by one unit in the last place, 2u.
            double allowed = (VectorMath.ExpRoundings + 2) * double.ScaleB(1, -53) * exact;
            Assert.InRange(Math.Abs(VectorMath.Exp(new Vector<double>(x))[0] - exact), 0, allowed);
        }
    }

    [Theory]
    [InlineData(double.NegativeInfinity, 0)]
    [InlineData(-800.0, 0)]
    [InlineData(0.0, 1)]
    [InlineData(710.0, double.PositiveInfinity)]
    [InlineData(double.PositiveInfinity, double.PositiveInfinity)]
    [InlineData(double.NaN, double.NaN)]
    public void Exp_of_doubles_at_the_ends(double x, double expected) =>
        Assert.Equal(expected, VectorMath.Exp(new Vector<double>(x))[0]);

    [Fact]
    public void Exp_of_doubles_reaches_large_and_subnormal_results()
    {
        for (double x = -745; x < 709.7; x += 0.37)
        {
            double exact = Math.Exp(x);
            double allowed = ((VectorMath.ExpRoundings + 2) * double.ScaleB(1, -53) * exact) + (x < -700 ? double.Epsilon : 0);
            Assert.InRange(Math.Abs(VectorMath.Exp(new Vector<double>(x))[0] - exact), 0, allowed);
        }
    }

    [Fact]
    public void Exp_of_doubles_is_the_same_function_at_both_widths()
    {
        for (int i = 0; i < 1000; i++)
        {
            Vector512<double> x = Vector512.Create(-30.0, -1.5, -1e-9, 0, 0.3, 2, 11, 80) * (1 + (i * 0.01));
            Vector512<double> wide = Vector512Math.Exp(x);
            for (int lane = 0; lane < 8; lane++)
            {
                Assert.Equal(VectorMath.Exp(new Vector<double>(x[lane]))[0], wide[lane]);
            }
        }
    }

    [Fact]
    public void Sigmoid_and_its_complement_keep_their_relative_accuracy_on_both_sides()
    {
        for (float x = -87f; x < 87f; x += 0.0137f)
        {
            float s = VectorMath.Sigmoid(new Vector<float>(x), out Vector<float> complement)[0];
            double exact = 1 / (1 + Math.Exp(-(double)x));
            double exactComplement = 1 / (1 + Math.Exp(x));
            Assert.InRange(Math.Abs(s - exact) / exact / U, 0, VectorMath.ExpRoundings + 2);
            Assert.InRange(Math.Abs(complement[0] - exactComplement) / exactComplement / U, 0, VectorMath.ExpRoundings + 2);
        }
    }

    [Fact]
    public void Normal_distribution_is_within_its_absolute_bound()
    {
        for (int i = -700; i <= 700; i++)
        {
            float x = i / 100f;
            double exact = Reference.NormalDistribution(x);
            double single = VectorMath.Normal(new Vector<float>(x), out _)[0];
            double wide = VectorMath.Normal(new Vector<double>(x), out _)[0];
            Assert.InRange(Math.Abs(single - exact) / U, 0, 6);

            // 40u, and as much again for the reference.
            Assert.InRange(Math.Abs(wide - exact), 0, 80 * double.ScaleB(1, -53));
        }
    }
}
