using Engine.Autograd;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>The feed-forward part of one layer: gated (gate, up, down) or plain (up, down).</summary>
internal sealed class MlpBlock
{
    public required ActivationKind Activation { get; init; }

    /// <summary>Null when the MLP is not gated.</summary>
    public LinearModule? Gate { get; init; }

    public required LinearModule Up { get; init; }

    public required LinearModule Down { get; init; }

    public Variable Forward(Tape tape, BatchContext batch, Variable x)
    {
        using Device.RangeScope range = batch.Device.Range("mlp");
        using Variable up = Up.Forward(tape, batch, x);
        if (Gate is null)
        {
            using Variable activated = Activate(tape, up);
            return Down.Forward(tape, batch, activated);
        }

        using Variable gate = Gate.Forward(tape, batch, x);
        using Variable inner = tape.SwiGlu(gate, up);
        return Down.Forward(tape, batch, inner);
    }

    private Variable Activate(Tape tape, Variable x) => Activation switch
    {
        ActivationKind.Gelu => tape.Gelu(x, tanh: false),
        ActivationKind.GeluTanh => tape.Gelu(x, tanh: true),
        _ => tape.Silu(x),
    };
}
