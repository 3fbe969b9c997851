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

    public Variable Forward(Tape tape, BatchContext batch, Variable x)
    {
        using Device.RangeScope range = batch.Device.Range(Name);
        using Variable attended = Residual(tape, x, normed => Attention.Forward(tape, batch, normed), AttentionNorm);
        return Residual(tape, attended, normed => Mlp.Forward(tape, batch, normed), MlpNorm);
    }

    private static Variable Residual(Tape tape, Variable x, Func<Variable, Variable> inner, NormModule norm)
    {
        using Variable normed = norm.Forward(tape, x);
        using Variable branch = inner(normed);
        return tape.Add(x, branch);
    }
}
