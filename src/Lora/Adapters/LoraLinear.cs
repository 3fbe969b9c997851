using Engine.Autograd;
using Engine.Kernels;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>Which adapters are in charge; one object shared by all linears of a model, so that switching is one assignment.</summary>
internal sealed class AdapterSelection
{
    /// <summary>The active adapter, or null for the base.</summary>
    public LoraAdapter? Active { get; set; }

    /// <summary>The adapters that <see cref="BatchContext.RowAdapters"/> indexes, or null when batches are not mixed.</summary>
    public IReadOnlyList<LoraAdapter>? Mixed { get; set; }
}

/// <summary>
/// Adapts one linear. Plain LoRA: y = x·Wᵀ + b + s·drop(x)·Aᵀ·Bᵀ. DoRA with c = m/‖W + s·B·A‖ by rows (the norm is a
/// constant for gradients): y = c∘(x·Wᵀ + s·x·Aᵀ·Bᵀ) + b. Sources: Hu et al., LoRA; Liu et al., DoRA §4.3.
/// </summary>
internal sealed class LoraLinear(AdapterSelection selection) : ILinearAdapter
{
    private readonly List<LoraLayer?> _layers = [];

    public bool IsActive =>
        selection.Mixed is not null ? Mixed is not null : selection.Active is { } active && LayerOf(active) is not null;

    /// <summary>The layers of the mixed set in this linear; null when there is no set, or no layer.</summary>
    public MixedLayer? Mixed { get; set; }

    /// <summary>Enters an adapter's layer for this linear at the adapter's index.</summary>
    public void Set(int adapter, LoraLayer? layer)
    {
        while (_layers.Count <= adapter)
        {
            _layers.Add(null);
        }

        _layers[adapter] = layer;
    }

    public LoraLayer? LayerOf(LoraAdapter adapter) => adapter.Index < _layers.Count ? _layers[adapter.Index] : null;

    public Variable Forward(Tape tape, BatchContext batch, LinearModule linear, Variable x)
    {
        if (selection.Mixed is not null && batch.Adapters is { } rows)
        {
            return Mixed is null ? linear.Base(tape, x) : Mixed.Forward(tape, batch, rows, linear, x);
        }

        LoraLayer? layer = selection.Active is { } active ? LayerOf(active) : null;
        if (layer is null)
        {
            return linear.Base(tape, x);
        }

        bool drops = batch.Training && layer.Dropout > 0;
        if (layer.Magnitude is not null)
        {
            return drops ? DoraWithDropout(tape, batch, linear, x, layer) : DoraForward(tape, linear, x, layer, linear.Bias);
        }

        using Variable y = linear.Base(tape, x);
        if (!drops)
        {
            return tape.LowRank(y, x, layer.A, layer.B, layer.Scale);
        }

        using Variable dropped = tape.Dropout(x, layer.Dropout, batch.Dropout(layer.Site));
        return tape.LowRank(y, dropped, layer.A, layer.B, layer.Scale);
    }

    private static Variable DoraForward(Tape tape, LinearModule linear, Variable x, LoraLayer layer, Variable? bias)
    {
        using Variable plain = linear.Base(tape, x, withBias: false);
        using Variable adapted = tape.LowRank(plain, x, layer.A, layer.B, layer.Scale);
        using Tensor norm = DoraNorm(linear, layer);
        return tape.ScaleColumns(adapted, layer.Magnitude!, norm, bias);
    }

    // PEFT drops the whole DoRA branch's input: y = W·x + b + [c∘(W + s·B·A)·x' − W·x'], x' = drop(x).
    private static Variable DoraWithDropout(Tape tape, BatchContext batch, LinearModule linear, Variable x, LoraLayer layer)
    {
        using Variable dropped = tape.Dropout(x, layer.Dropout, batch.Dropout(layer.Site));
        using Variable whole = linear.Base(tape, x);
        using Variable droppedBase = linear.Base(tape, dropped, withBias: false);
        using Variable negative = tape.Scale(droppedBase, -1);
        using Variable rest = tape.Add(whole, negative);
        using Variable branch = DoraForward(tape, linear, dropped, layer, bias: null);
        return tape.Add(rest, branch);
    }

    internal static Tensor DoraNorm(LinearModule linear, LoraLayer layer)
    {
        Tensor norm = Tensor.Empty([linear.OutFeatures], layer.Magnitude!.Value.DType, linear.Weight.Value.Device);
        Dora.WeightNorm(linear.Weight.Value, layer.A.Value, layer.B.Value, layer.Scale, linear.IsTransposed, norm);
        return norm;
    }
}
