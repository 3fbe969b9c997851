using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// The residual addition and the RMSNorm that follows it: s = x + branch, y = RmsNorm(s) as <see cref="RmsNorm"/> has it, with
    /// the bits of <see cref="Add"/> and <see cref="RmsNorm"/>, in one pass over memory. Shapes: x, branch, s, y [R,C], weight [C].
    /// Backward is theirs too: the norm adds to the gradient that has arrived at s, which goes on to x and branch without a copy.
    /// </summary>
    public static (Variable Sum, Variable Normed) AddRmsNorm(
        this Tape tape, Variable x, Variable branch, Variable weight, float epsilon, int border = 0)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(branch);
        ArgumentNullException.ThrowIfNull(weight);
        using var made = new Tentative();
        Tensor s = made.Add(x.Value.EmptyLike());
        Tensor y = made.Add(Bordered(x.Value, border));
        Tensor rstd = made.Add(Tensor.Empty([RowsOf(x.Value)], StatisticsOf(x.Value), x.Value.Device));
        Kernels.AddNorm.RmsNorm(x.Value, branch.Value, weight.Value, epsilon, s, y, rstd);
        made.Keep();
        Variable sum = Added(tape, x, branch, s);
        return (sum, Normed(tape, sum, weight, epsilon, y, rstd));
    }

    /// <summary>
    /// The residual addition and the LayerNorm that follows it: s = x + branch, y = LayerNorm(s) as <see cref="LayerNorm"/> has it,
    /// else like <see cref="AddRmsNorm"/>. Shapes: x, branch, s, y [R,C], weight, bias [C].
    /// </summary>
    public static (Variable Sum, Variable Normed) AddLayerNorm(
        this Tape tape, Variable x, Variable branch, Variable weight, Variable? bias, float epsilon, int border = 0)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(branch);
        ArgumentNullException.ThrowIfNull(weight);
        using var made = new Tentative();
        Tensor s = made.Add(x.Value.EmptyLike());
        Tensor y = made.Add(Bordered(x.Value, border));
        Tensor mean = made.Add(Tensor.Empty([RowsOf(x.Value)], StatisticsOf(x.Value), x.Value.Device));
        Tensor rstd = made.Add(mean.EmptyLike());
        Kernels.AddNorm.LayerNorm(x.Value, branch.Value, weight.Value, bias?.Value, epsilon, s, y, mean, rstd);
        made.Keep();
        Variable sum = Added(tape, x, branch, s);
        return (sum, Normed(tape, sum, weight, bias, epsilon, y, mean, rstd));
    }
}
