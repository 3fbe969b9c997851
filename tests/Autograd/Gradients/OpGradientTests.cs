using System.Reflection;
using System.Runtime.CompilerServices;
using Engine.Tensors;

namespace Engine.Autograd.Tests.Gradients;

/// <summary>Every op against finite differences, and what every op has in common.</summary>
public sealed class OpGradientTests
{
    public static TheoryData<string> Cases => [.. GradientCases.All.Keys];

    [Fact]
    public void Every_op_has_a_gradient_check()
    {
        IEnumerable<string> ops = typeof(Ops).GetMethods(BindingFlags.Public | BindingFlags.Static)
            .Where(m => m.IsDefined(typeof(ExtensionAttribute)))
            .Select(m => m.Name);
        Assert.Empty(ops.Except(GradientCases.All.Values.Select(c => c.Op)));
    }

    [Theory]
    [Trait("Device", "Cpu")]
    [MemberData(nameof(Cases))]
    public void Gradients_agree_with_finite_differences(string name)
    {
        using GradientProblem problem = GradientCases.All[name].Create(new CountedDevice());
        (double error, string where) = GradientCheck.Run(problem.Function, problem.Inputs);
        Assert.True(error <= GradientCheck.Tolerance, $"{error:E2} at {where}");

        // The tolerance is relative to max(1, |gradient|): gradients have to be large enough for it to mean something.
        Run(problem);
        for (int i = 0; i < problem.Inputs.Length; i++)
        {
            double largest = problem.Inputs[i].Gradient!.ToDoubles().Max(Math.Abs);
            if (GradientCases.All[name].WithoutInfluence.Contains(i))
            {
                Assert.InRange(largest, 0, 1e-14);
            }
            else
            {
                Assert.True(largest >= 0.01, $"input {i}: {largest:E2}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Each_input_alone_gets_the_gradient_it_gets_in_company_and_frozen_ones_get_none(string name)
    {
        using GradientProblem problem = GradientCases.All[name].Create(new CountedDevice());
        Run(problem);
        byte[]?[] together = [.. problem.Inputs.Select(Leaves.GradientBytes)];
        for (int i = 0; i < problem.Inputs.Length; i++)
        {
            for (int j = 0; j < problem.Inputs.Length; j++)
            {
                problem.Inputs[j].ClearGradient();
                problem.Inputs[j].RequiresGrad = i == j;
            }

            Run(problem);
            for (int j = 0; j < problem.Inputs.Length; j++)
            {
                Assert.Equal(i == j ? together[j] : null, Leaves.GradientBytes(problem.Inputs[j]));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Nothing_is_recorded_when_all_inputs_are_frozen(string name)
    {
        using GradientProblem problem = GradientCases.All[name].Create(new CountedDevice());
        byte[] expected;
        using (var tape = new Tape())
        using (Variable y = problem.Function(tape, problem.Inputs))
        {
            Assert.True(tape.Count > 0);
            expected = y.Value.ToBytes();
        }

        foreach (Variable input in problem.Inputs)
        {
            input.RequiresGrad = false;
        }

        using var frozen = new Tape();
        using Variable result = problem.Function(frozen, problem.Inputs);
        Assert.Equal(0, frozen.Count);
        Assert.False(result.RequiresGrad);
        Assert.Equal(expected, result.Value.ToBytes());
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Nothing_is_left_when_all_is_disposed(string name)
    {
        using GradientProblem problem = GradientCases.All[name].Create(new CountedDevice());
        long before = problem.Device.LiveStorages;

        // Forward without a tape, forward without backward, and both.
        using (Tape inference = Tape.Inference())
        {
            problem.Function(inference, problem.Inputs).Dispose();
            Assert.Equal(before, problem.Device.LiveStorages);
        }

        using (var tape = new Tape())
        {
            problem.Function(tape, problem.Inputs).Dispose();
        }

        Assert.Equal(before, problem.Device.LiveStorages);
        Run(problem);
        Assert.Equal(before + problem.Inputs.Select(i => i.Gradient!.Storage).Distinct().Count(), problem.Device.LiveStorages);
        problem.Dispose();
        Assert.Equal(0, problem.Device.LiveStorages);
        Assert.Equal(0, problem.Device.LiveBytes);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_second_backward_adds_the_same_again(string name)
    {
        using GradientProblem problem = GradientCases.All[name].Create(new CountedDevice());
        Run(problem);
        double[][] once = [.. problem.Inputs.Select(i => i.Gradient!.ToDoubles())];
        Run(problem);
        for (int i = 0; i < once.Length; i++)
        {
            double[] twice = problem.Inputs[i].Gradient!.ToDoubles();
            double largest = once[i].Max(Math.Abs);
            for (int j = 0; j < twice.Length; j++)
            {
                // Kernels that add to what is there take their terms in another order. A sum of n ≤ 517 terms is off by at
                // most n·ε·Σ|terms| either way, and Σ|terms| is here at most ten times the largest gradient:
                // 2·517·10·ε, in double precision 1e-12.
                double relative = 2 * 517 * 10 * Math.Pow(2, Leaves.Precision == DType.F64 ? -53 : -24);
                Assert.Equal(2 * once[i][j], twice[j], relative * Math.Max(1e-3, largest));
            }
        }
    }

    // Results are disposed before backward, as models do.
    private static void Run(GradientProblem problem)
    {
        using var tape = new Tape();
        Variable y = problem.Function(tape, problem.Inputs);
        Tensor upstream = Leaves.Of(Leaves.Values(y.Value.Elements, 99), y.Value.Shape, problem.Device);
        y.Dispose();
        tape.Backward(y, upstream);
        Assert.Equal(0, tape.Count);
        Assert.Equal(0, tape.SavedBytes);
    }
}
