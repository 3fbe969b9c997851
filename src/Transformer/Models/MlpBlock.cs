using Engine.Autograd;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>The feed-forward part of one layer: gated (gate, up, down) or plain (up, down).</summary>
internal sealed class MlpBlock
{
    public required ActivationKind Activation { get; init; }

    /// <summary>Gate and up, or up alone.</summary>
    public required LinearStack Inputs { get; init; }

    public required LinearStack Down { get; init; }

    public Variable Forward(Tape tape, BatchContext batch, Variable x)
    {
        using Device.RangeScope range = batch.Device.Range("mlp");
        using Variable up = Inputs.Forward(tape, batch, x);
        if (Activation != ActivationKind.Silu && Inputs.Linears.Count == 1 && Down.IsPlain)
        {
            LinearModule down = Down.Linears[0];
            return tape.GeluLinear(up, Activation == ActivationKind.GeluTanh, down.Weight, down.Bias, down.IsTransposed);
        }

        if (Inputs.Linears.Count > 1)
        {
            return Down.ForwardSwiGlu(tape, batch, up);
        }

        using Variable inner = Activate(tape, up);
        return Down.Forward(tape, batch, inner);
    }

    private Variable Activate(Tape tape, Variable x) => Activation switch
    {
        ActivationKind.Gelu => tape.Gelu(x, tanh: false, Down.Border),
        ActivationKind.GeluTanh => tape.Gelu(x, tanh: true, Down.Border),
        _ => tape.Silu(x, Down.Border),
    };
}
