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

    /// <summary>The layer by itself: [R, hidden] → [R, hidden].</summary>
    public Variable Forward(Tape tape, BatchContext batch, Variable x)
    {
        using var stream = ResidualStream.Over(x);
        Forward(tape, batch, stream);
        return stream.Take(tape);
    }

    /// <summary>The layer as a part of the stream, in which its last addition waits for the next norm.</summary>
    public void Forward(Tape tape, BatchContext batch, ResidualStream stream)
    {
        using Device.RangeScope range = batch.Device.Range(Name);
        using (Variable normed = stream.Norm(tape, AttentionNorm, Attention.Projections.Border))
        {
            stream.Add(Attention.Forward(tape, batch, normed));
        }

        using (Variable normed = stream.Norm(tape, MlpNorm, Mlp.Inputs.Border))
        {
            stream.Add(Mlp.Forward(tape, batch, normed));
        }
    }
}
