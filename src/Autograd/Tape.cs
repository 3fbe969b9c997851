using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

/// <summary>
/// Records ops during forward and replays them in reverse for gradients. A tape with <see cref="IsRecording"/> false
/// records nothing, so inference keeps no activation. Ops are extension methods on the tape (<c>Ops/</c>).
/// </summary>
public sealed class Tape(bool recording = true) : IDisposable
{
    private readonly List<Node> _nodes = [];

    /// <summary>False for inference: nothing is saved and no result requires a gradient.</summary>
    public bool IsRecording { get; } = recording;

    /// <summary>Number of recorded ops.</summary>
    public int Count => _nodes.Count;

    /// <summary>Bytes held for backward by all recorded ops (shared storage is counted once per share).</summary>
    public long SavedBytes => _nodes.Sum(n => n.SavedBytes);

    /// <summary>A tape for inference.</summary>
    public static Tape Inference() => new(recording: false);

    /// <summary>
    /// Whether any op on this tape, recorded or not, was asked about an input that requires a gradient. A checkpointed
    /// block that met none needs no second run.
    /// </summary>
    internal bool MetTrainable { get; private set; }

    /// <summary>Whether an op with these inputs has to be recorded. Every op asks this about all its inputs.</summary>
    public bool Needs(Variable a) => Needs(a, null, null);

    /// <inheritdoc cref="Needs(Variable)"/>
    public bool Needs(Variable a, Variable? b) => Needs(a, b, null);

    /// <inheritdoc cref="Needs(Variable)"/>
    public bool Needs(Variable a, Variable? b, Variable? c)
    {
        ArgumentNullException.ThrowIfNull(a);
        bool trainable = a.RequiresGrad || b is { RequiresGrad: true } || c is { RequiresGrad: true };
        MetTrainable |= trainable;
        return IsRecording && trainable;
    }

    /// <summary>The result of an op that needs no gradient; takes over <paramref name="value"/>.</summary>
    public static Variable Constant(Tensor value) => new(value);

    /// <summary>The result of a recorded op; takes over <paramref name="value"/> and <paramref name="node"/>.</summary>
    public Variable Record(Tensor value, Node node)
    {
        ArgumentNullException.ThrowIfNull(node);
        var output = new Variable(value, requiresGrad: true);
        node.Output = output;
        _nodes.Add(node);
        return output;
    }

    /// <summary>
    /// Runs backward from a loss [1] whose own gradient is one. Unlike with a gradient made by the caller, the ops know that
    /// it is one without looking, which a device could only do by waiting.
    /// </summary>
    public void Backward(Variable loss)
    {
        ArgumentNullException.ThrowIfNull(loss);
        loss.HasUnitGradient = true;
        Backward(loss, UnitGradient.Like(loss.Value));
    }

    /// <summary>
    /// Runs backward from <paramref name="output"/> with <paramref name="gradient"/> (same shape and dtype; taken over)
    /// and empties the tape. Gradients of leaves accumulate; those between ops are freed as soon as they are used.
    /// </summary>
    /// <exception cref="ArgumentException">The gradient's shape or dtype is not the output's; it stays the caller's.</exception>
    public void Backward(Variable output, Tensor gradient)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(gradient);
        if (gradient.Shape != output.Value.Shape || gradient.DType != output.Value.DType)
        {
            throw new ArgumentException(
                $"the gradient is {gradient.DType.Name()} {gradient.Shape} for an output of {output.Value.DType.Name()} {output.Value.Shape}",
                nameof(gradient));
        }

        Device device = gradient.Device;
        using Device.RangeScope backward = device.Range("backward");
        output.AccumulateGradient(gradient);
        for (int i = _nodes.Count - 1; i >= 0; i--)
        {
            Node node = _nodes[i];
            using Device.RangeScope range = device.Range(node.Name);
            Tensor? g = node.Output!.TakeGradient();
            if (g is { IsContiguous: false } && !node.TakesGaps)
            {
                using Tensor gaps = g;
                g = Copy.Clone(gaps);
            }

            if (g is not null)
            {
                node.BackwardOwned(g);
            }

            node.Dispose();
            _nodes.RemoveAt(i);
        }
    }

    /// <summary>Drops all recorded ops and what they saved.</summary>
    public void Dispose()
    {
        foreach (Node node in _nodes)
        {
            node.Output?.ClearGradient();
            node.Dispose();
        }

        _nodes.Clear();
    }
}
