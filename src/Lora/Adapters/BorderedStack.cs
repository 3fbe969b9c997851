using Engine.Autograd;
using Engine.Kernels;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>
/// Adapts a stack of linears by LoRA in the border of their frozen weights: one product forward and one backward for frozen
/// weights and up-projections together (see <see cref="BorderedWeight"/>). Dropout concerns the low-rank branch alone; each
/// linear drops by itself, as in PEFT. DoRA without dropout scales the outputs' columns afterwards (see <see cref="LoraLinear"/>).
/// </summary>
internal sealed class BorderedStack(
    AdapterSelection selection, LoraAdapter adapter, BorderedWeight weight, LoraLayer?[] layers) : IStackAdapter
{
    public bool IsActive => ReferenceEquals(selection.Active, adapter) && selection.Mixed is null;

    public int Border => weight.Border;

    public bool FormsSwiGluAgain => !HasDora && !HasDropout;

    public bool FormsNormedAgain => !HasDropout;

    private bool HasDora => Array.Exists(layers, static layer => layer?.Magnitude is not null);

    private bool HasDropout => Array.Exists(layers, static layer => layer is { Dropout: not 0 });

    private bool Drops(BatchContext batch) => batch.Training && HasDropout;

    public Variable Forward(Tape tape, BatchContext batch, LinearStack stack, Variable x)
    {
        if (HasDora)
        {
            return ForwardDora(tape, stack, x);
        }

        AdaptedPart[] parts = Parts(stack);
        if (!Drops(batch))
        {
            return tape.AdaptedLinear(x, null, weight, parts);
        }

        var dropped = new Variable?[layers.Length];
        try
        {
            for (int i = 0; i < layers.Length; i++)
            {
                dropped[i] = layers[i] is { } layer ? tape.Dropout(x, layer.Dropout, batch.Dropout(layer.Site)) : null;
            }

            return tape.AdaptedLinear(x, dropped, weight, parts);
        }
        finally
        {
            foreach (Variable? own in dropped)
            {
                own?.Dispose();
            }
        }
    }

    public Variable ForwardSwiGlu(Tape tape, BatchContext batch, LinearStack stack, Variable gateUp)
    {
        if (!HasDora && !Drops(batch))
        {
            return tape.SwiGluLinear(gateUp, weight, Parts(stack));
        }

        using Variable inner = tape.SwiGlu(gateUp, Border);
        return Forward(tape, batch, stack, inner);
    }

    private AdaptedPart[] Parts(LinearStack stack) =>
        [.. stack.Linears.Select((linear, i) => new AdaptedPart(layers[i]?.A, layers[i]?.B, linear.Bias))];

    private Variable ForwardDora(Tape tape, LinearStack stack, Variable x)
    {
        AdaptedPart[] parts = [.. layers.Select(static layer => new AdaptedPart(layer?.A, layer?.B, null))];
        using Variable plain = tape.AdaptedLinear(x, null, weight, parts);
        var scaled = new ScaledColumns[layers.Length];
        try
        {
            for (int i = 0; i < scaled.Length; i++)
            {
                BorderSlot slot = weight.Slots[i];
                Tensor? norm = layers[i] is { Magnitude: not null } layer ? LoraLinear.DoraNorm(stack.Linears[i], layer) : null;
                scaled[i] = new ScaledColumns(slot.Begin, slot.Outputs, layers[i]?.Magnitude, norm, stack.Linears[i].Bias);
            }

            return tape.ScaleColumns(plain, scaled);
        }
        finally
        {
            Array.ForEach(scaled, static part => part.D?.Dispose());
        }
    }
}
