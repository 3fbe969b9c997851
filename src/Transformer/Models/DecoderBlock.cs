using Engine.Autograd;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>One pre-norm layer: h + attention(norm(h)), then h + mlp(norm(h)).</summary>
internal sealed class DecoderBlock
{
    /// <summary>What profiles call it.</summary>
    public required string Name { get; init; }

    public required NormModule AttentionNorm { get; init; }

    public required AttentionBlock Attention { get; init; }

    public required NormModule MlpNorm { get; init; }

    public required MlpBlock Mlp { get; init; }

    /// <summary>The linears by the inputs they share, in order of the computation.</summary>
    public IEnumerable<LinearStack> Stacks => [Attention.Projections, Attention.Output, Mlp.Inputs, Mlp.Down];

    public Variable Forward(Tape tape, BatchContext batch, Variable x)
    {
        using Device.RangeScope range = batch.Device.Range(Name);
        using Variable attended = Residual(tape, x, normed => Attention.Forward(tape, batch, normed), AttentionNorm, Attention.Projections.Border);
        return Residual(tape, attended, normed => Mlp.Forward(tape, batch, normed), MlpNorm, Mlp.Inputs.Border);
    }

    private static Variable Residual(Tape tape, Variable x, Func<Variable, Variable> inner, NormModule norm, int border)
    {
        using Variable normed = norm.Forward(tape, x, border);
        using Variable branch = inner(normed);
        return tape.Add(x, branch);
    }
}
