using Engine.Autograd;

namespace Engine.Transformer;

/// <summary>What stands in for a linear's own forward, such as a LoRA adapter.</summary>
public interface ILinearAdapter
{
    /// <summary>False while the plain layer answers although an adapter is attached.</summary>
    bool IsActive { get; }

    /// <summary>The adapted output. Shapes: x [R, InFeatures], result [R, OutFeatures].</summary>
    Variable Forward(Tape tape, BatchContext batch, LinearModule linear, Variable x);
}

/// <summary>A linear layer of the model: y = x·Wᵀ + b, with a place for an adapter.</summary>
public sealed class LinearModule
{
    /// <summary>Makes the layer.</summary>
    /// <param name="path">The module's path, such as <c>model.layers.0.self_attn.q_proj</c>.</param>
    /// <param name="weight">[out, in], or [in, out] when <paramref name="transposed"/>.</param>
    /// <param name="bias">[out], or null.</param>
    /// <param name="transposed">GPT-2's Conv1D layout (PEFT's <c>fan_in_fan_out</c>).</param>
    public LinearModule(string path, Variable weight, Variable? bias, bool transposed = false)
    {
        ArgumentNullException.ThrowIfNull(weight);
        Path = path;
        Weight = weight;
        Bias = bias;
        IsTransposed = transposed;
    }

    /// <summary>The module's path.</summary>
    public string Path { get; }

    /// <summary>The weight; exchanged when an adapter brings a trained copy of the whole module.</summary>
    public Variable Weight { get; set; }

    /// <summary>The bias, or null.</summary>
    public Variable? Bias { get; set; }

    /// <summary>True when the weight is stored [in, out].</summary>
    public bool IsTransposed { get; }

    /// <summary>The adapter in charge, or null for the plain layer.</summary>
    public ILinearAdapter? Adapter { get; set; }

    /// <summary>Columns of the input.</summary>
    public int InFeatures => Weight.Value.Shape[IsTransposed ? 0 : 1];

    /// <summary>Columns of the output.</summary>
    public int OutFeatures => Weight.Value.Shape[IsTransposed ? 1 : 0];

    /// <summary>The layer's output, adapted or plain. Shapes: x [R, InFeatures], result [R, OutFeatures].</summary>
    public Variable Forward(Tape tape, BatchContext batch, Variable x) =>
        Adapter is null ? Base(tape, x) : Adapter.Forward(tape, batch, this, x);

    /// <summary>The plain layer's output, whatever adapter is in charge.</summary>
    public Variable Base(Tape tape, Variable x, bool withBias = true) =>
        tape.Linear(x, Weight, withBias ? Bias : null, IsTransposed);
}
