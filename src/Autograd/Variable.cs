using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

/// <summary>
/// A tensor that may carry a gradient: a parameter (a leaf, which lives as long as the model) or the result of an op
/// (which lives until its user disposes it; nodes of the tape keep their own shares of what backward needs).
/// </summary>
public sealed class Variable : IDisposable
{
    private readonly Device _device;
    private Tensor? _gradient;
    private bool _bound;
    private bool _borderTaken;

    /// <summary>Makes a leaf and takes over <paramref name="value"/>.</summary>
    public Variable(Tensor value, bool requiresGrad = false, string? name = null)
    {
        ArgumentNullException.ThrowIfNull(value);
        Value = value;
        _device = value.Device;
        RequiresGrad = requiresGrad;
        Name = name;
    }

    /// <summary>The tensor.</summary>
    public Tensor Value { get; private set; }

    /// <summary>Whether gradients flow to this variable. Ops of which no input requires a gradient record nothing.</summary>
    public bool RequiresGrad { get; set; }

    /// <summary>The parameter's path in the model, such as <c>model.layers.0.self_attn.q_proj.weight</c>.</summary>
    public string? Name { get; }

    /// <summary>The gradient is known to be one: ops that would multiply by it need not look.</summary>
    internal bool HasUnitGradient { get; set; }

    /// <summary>
    /// The border (<see cref="Tensor.Border"/>) that the gradient's buffer should have, because the op that made this variable
    /// uses it in its backward. Whoever makes the buffer asks; an op that finds none makes a copy that has one.
    /// </summary>
    public int GradientBorder { get; internal set; }

    /// <summary>What the value can be formed from again, of a recorded norm's result; else null. Disposed with the value.</summary>
    internal NormedSource? Source { get; set; }

    /// <summary>The gradient accumulated so far, same shape and dtype as <see cref="Value"/>; null when none has arrived.</summary>
    public Tensor? Gradient => _gradient;

    /// <summary>Exchanges the value of a leaf (an adapter being merged, a checkpoint loaded) and disposes the old one.</summary>
    public void Replace(Tensor value)
    {
        ArgumentNullException.ThrowIfNull(value);
        if (!ReferenceEquals(Value, value))
        {
            // A recorded step refers to the old value's memory.
            _device.InvalidateGraphs();
            Value.Dispose();
            Value = value;
        }
    }

    /// <summary>
    /// Gives a leaf a gradient buffer that stays: gradients are always added to it, and clearing sets it to zero. Recorded
    /// steps need gradients at fixed addresses. Takes over <paramref name="buffer"/>, which holds zeros.
    /// </summary>
    /// <exception cref="ArgumentException">The buffer is not like the value.</exception>
    /// <exception cref="InvalidOperationException">A buffer is bound already.</exception>
    public void BindGradient(Tensor buffer)
    {
        ArgumentNullException.ThrowIfNull(buffer);
        if (buffer.Shape != Value.Shape || buffer.DType != Value.DType || buffer.Device != Value.Device)
        {
            throw new ArgumentException($"the gradient of {Value} cannot be {buffer}", nameof(buffer));
        }

        if (_bound)
        {
            throw new InvalidOperationException($"{Name ?? "the variable"} is being trained already; dispose that training step first");
        }

        _gradient?.Dispose();
        _gradient = buffer;
        _bound = true;
    }

    /// <summary>Gives the bound buffer up.</summary>
    public void UnbindGradient()
    {
        if (_bound)
        {
            _bound = false;
            ClearGradient();
        }
    }

    /// <summary>Adds to the gradient and takes over <paramref name="gradient"/>; does nothing but dispose it where no gradient is needed.</summary>
    public void AccumulateGradient(Tensor gradient)
    {
        ArgumentNullException.ThrowIfNull(gradient);
        if (!RequiresGrad)
        {
            gradient.Dispose();
        }
        else if (_gradient is null)
        {
            _gradient = gradient;
        }
        else if (_bound)
        {
            Elementwise.Add(_gradient, gradient, _gradient);
            gradient.Dispose();
        }
        else
        {
            // A gradient passed through a residual is shared by both branches: only a sole owner may be written.
            Tensor old = _gradient;
            Tensor target = old.Storage.Owners == 1 ? old : gradient.Storage.Owners == 1 ? gradient : NewGradient();
            Elementwise.Add(old, gradient, target);
            _gradient = target;
            if (!ReferenceEquals(target, old))
            {
                old.Dispose();
            }

            if (!ReferenceEquals(target, gradient))
            {
                gradient.Dispose();
            }
        }
    }

    /// <summary>Takes the border of the value for the caller's use, which lasts as long as the value; false when there is none, or it is taken.</summary>
    internal bool ClaimBorder(int columns)
    {
        bool free = !_borderTaken && Value.Border >= columns;
        _borderTaken |= free;
        return free;
    }

    /// <summary>A tensor like the value for its gradient, with the border it should have; content undefined.</summary>
    public Tensor NewGradient() => GradientBorder > 0 && Value.Shape.Rank == 2
        ? Tensor.EmptyBordered(Value.Shape, GradientBorder, Value.DType, _device)

        // The value may be gone already: users dispose an op's result as soon as nothing reads it any more.
        : Tensor.Empty(Value.Shape, Value.DType, _device);

    /// <summary>
    /// The gradient's buffer for a kernel that accumulates into it itself. When <paramref name="fresh"/> is true the
    /// content is undefined and must be overwritten; otherwise it must be added to.
    /// </summary>
    public Tensor OpenGradient(out bool fresh)
    {
        fresh = _gradient is null;
        if (_gradient is null)
        {
            _gradient = NewGradient();
        }
        else if (!_bound && _gradient.Storage.Owners > 1)
        {
            Tensor shared = _gradient;
            _gradient = NewGradient();
            Copy.Run(shared, _gradient);
            shared.Dispose();
        }

        return _gradient;
    }

    /// <summary>The gradient's buffer, zeroed if no gradient has arrived yet, for a kernel that only ever adds.</summary>
    public Tensor OpenGradientForAdd()
    {
        Tensor gradient = OpenGradient(out bool fresh);
        if (fresh && gradient.Border == 0)
        {
            gradient.Clear();
        }
        else if (fresh)
        {
            using Tensor zeros = Tensor.Zeros(gradient.Shape, gradient.DType, _device);
            Copy.Run(zeros, gradient);
        }

        return gradient;
    }

    /// <summary>Takes the gradient out; the caller disposes it. A bound buffer stays: what comes out is a copy.</summary>
    public Tensor? TakeGradient()
    {
        if (_bound)
        {
            Tensor copy = _gradient!.Clone();
            _gradient.Clear();
            return copy;
        }

        Tensor? gradient = _gradient;
        _gradient = null;
        return gradient;
    }

    /// <summary>Drops the gradient; a bound buffer is set to zero.</summary>
    public void ClearGradient()
    {
        if (_bound)
        {
            _gradient!.Clear();
            return;
        }

        TakeGradient()?.Dispose();
    }

    /// <summary>Gives up the value and the gradient.</summary>
    public void Dispose()
    {
        Value.Dispose();
        Source?.Dispose();
        Source = null;
        UnbindGradient();
        // An op's result is usually disposed by its user before backward runs: the gradient arrives later and is taken by the tape.
        ClearGradient();
    }
}
