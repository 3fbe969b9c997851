using Engine.Kernels.Tests;
using Engine.Tensors;

namespace Engine.Autograd.Tests.Parity;

/// <summary>
/// Results and gradients of the ops on the tape against PyTorch's autograd, in f32 by the project's rule (see
/// <see cref="ParityFixtures.AssertAsGoodAsReference"/>; its floor of 16 units roundoff covers the longest chain of
/// roundings of one element here: sums of at most 130 terms in at least 8 lanes) and in f64.
/// </summary>
public sealed class OpParityTests
{
    private static readonly ParityFixtures s_fixtures = new();

    public static TheoryData<string> Cases =>
    [
        .. s_fixtures.Cases("").Where(c => !c.StartsWith("adamw", StringComparison.Ordinal) &&
            !c.StartsWith("clip", StringComparison.Ordinal) && !c.EndsWith("_with_past", StringComparison.Ordinal)),
    ];

    [Fact]
    public void All_ops_of_the_fixtures_are_compared() => Assert.Equal(26, Cases.Count);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Results_and_gradients_match_in_f32(string name)
    {
        foreach ((string tensor, double[] actual) in Run(name, DType.F32))
        {
            s_fixtures.AssertAsGoodAsReference(tensor, actual);
        }
    }

    [Theory]
    [Trait("Device", "Cpu")]
    [MemberData(nameof(Cases))]
    public void Results_and_gradients_match_in_f64(string name)
    {
        // Both sides sum at most 130 terms; ill-conditioned steps (norms, softmax) magnify that by less than ten. Scalar
        // arguments of our ops are f32: ε of the norms (1e-5 or 1e-6 of a variance of order one, off by 2⁻²⁵ of itself),
        // the attention's 1/√D (exact only for D = 4) and the mean's 1/n (exact for powers of two).
        double relative = 2 * 130 * 10 * Math.Pow(2, -53);
        if (name is "cross_entropy_small" || (name.StartsWith("attention", StringComparison.Ordinal) && name != "attention_window_one"))
        {
            // A scale off by 2⁻²⁵ moves a score s by 2⁻²⁵·|s|, and scores reach about ten.
            relative = 10 * Math.Pow(2, -25);
        }

        foreach ((string tensor, double[] actual) in Run(name, DType.F64))
        {
            double[] expected = s_fixtures[tensor + "_f64"];
            double largest = expected.Max(Math.Abs);
            Assert.Equal(expected.Length, actual.Length);
            for (int i = 0; i < expected.Length; i++)
            {
                Assert.True(
                    Math.Abs(actual[i] - expected[i]) <= relative * largest,
                    $"{tensor}[{i}]: {actual[i]:R}, PyTorch {expected[i]:R}, off by {Math.Abs(actual[i] - expected[i]) / largest:E2} of the largest");
            }
        }
    }

    // Every result by the name that the fixtures give it, less the dtype.
    private static List<(string Tensor, double[] Actual)> Run(string name, DType dtype)
    {
        using var problem = new ParityCase(s_fixtures, name, dtype);
        using var tape = new Tape();
        double[] y;
        using (Variable output = problem.Forward(tape))
        {
            y = problem.Output(output.Value);
            tape.Backward(output, problem.Upstream());
        }

        return
        [
            ($"{name}.y", y),
            .. problem.Leaves.Select(l => ($"{name}.d{l.Key}", problem.Result(l.Value.Gradient!))),
        ];
    }
}
