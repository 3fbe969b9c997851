using Engine.Autograd;

namespace Engine.Transformer;

/// <summary>What stands in for a whole stack's forward, such as adapters that lie in the border of its frozen weights.</summary>
public interface IStackAdapter
{
    /// <summary>False while the linears answer for themselves although an adapter is attached.</summary>
    bool IsActive { get; }

    /// <summary>Columns of scratch that it wants after each row of the input (see <see cref="Engine.Tensors.Tensor.Border"/>).</summary>
    int Border { get; }

    /// <summary>Whether <see cref="ForwardSwiGlu"/> keeps nothing as wide as x for backward in training.</summary>
    bool FormsSwiGluAgain { get; }

    /// <summary>
    /// Whether <see cref="Forward"/> keeps nothing as wide as x for backward in training where x is the result of a norm whose own
    /// backward is recorded.
    /// </summary>
    bool FormsNormedAgain { get; }

    /// <summary>The adapted outputs side by side. Shapes: x [R, InFeatures], result [R, OutFeatures].</summary>
    Variable Forward(Tape tape, BatchContext batch, LinearStack stack, Variable x);

    /// <summary>
    /// The adapted outputs for x = silu(gate)∘up. Shapes: gateUp [R, 2·InFeatures] with the columns of
    /// gate, then those of up, result [R, OutFeatures].
    /// </summary>
    Variable ForwardSwiGlu(Tape tape, BatchContext batch, LinearStack stack, Variable gateUp);
}

/// <summary>
/// The linears that read one input, q, k and v or gate and up, or a single one: their outputs lie side by side in one matrix,
/// so that the frozen products can be one.
/// </summary>
public sealed class LinearStack
{
    private readonly LinearModule[] _linears;

    /// <summary>Makes the stack.</summary>
    public LinearStack(params LinearModule[] linears)
    {
        ArgumentNullException.ThrowIfNull(linears);
        ArgumentOutOfRangeException.ThrowIfZero(linears.Length);
        _linears = linears;
    }

    /// <summary>The linears, in the order of their outputs.</summary>
    public IReadOnlyList<LinearModule> Linears => _linears;

    /// <summary>What answers for the whole stack; null while each linear answers for itself.</summary>
    public IStackAdapter? Adapter { get; set; }

    /// <summary>Whether it is a single linear that no adapter answers for.</summary>
    public bool IsPlain => _linears.Length == 1 && _linears[0].Adapter is null && Adapter is not { IsActive: true };

    /// <summary>Columns of scratch wanted after each row of the input.</summary>
    public int Border => Adapter is { IsActive: true } ? Adapter.Border : 0;

    /// <summary>Whether weights are stored [in, out].</summary>
    public bool IsTransposed => _linears[0].IsTransposed;

    /// <summary>The outputs, adapted or plain. Shapes: x [R, InFeatures], result [R, sum of OutFeatures].</summary>
    public Variable Forward(Tape tape, BatchContext batch, Variable x)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(batch);
        if (Adapter is { IsActive: true })
        {
            return Adapter.Forward(tape, batch, this, x);
        }

        if (_linears.Length == 1)
        {
            return _linears[0].Forward(tape, batch, x);
        }

        if (!Array.Exists(_linears, static linear => linear.Adapter is { IsActive: true }))
        {
            return tape.Linear(x, [.. _linears.Select(static linear => (linear.Weight, linear.Bias))], IsTransposed);
        }

        var parts = new List<Variable>(_linears.Length);
        try
        {
            foreach (LinearModule linear in _linears)
            {
                parts.Add(linear.Forward(tape, batch, x));
            }

            return tape.JoinColumns(parts);
        }
        finally
        {
            parts.ForEach(static part => part.Dispose());
        }
    }

    /// <summary>The outputs for x = silu(gate)∘up. Shapes: gateUp [R, 2·InFeatures], result [R, sum of OutFeatures].</summary>
    public Variable ForwardSwiGlu(Tape tape, BatchContext batch, Variable gateUp)
    {
        ArgumentNullException.ThrowIfNull(tape);
        if (Adapter is { IsActive: true })
        {
            return Adapter.ForwardSwiGlu(tape, batch, this, gateUp);
        }

        using Variable inner = tape.SwiGlu(gateUp);
        return Forward(tape, batch, inner);
    }
}
