using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// One case of one op: its shapes (in the derived record), the bytes it must move, its floating-point operations and the
/// error it is allowed. The unit test, the gradient check, the benchmark and the roofline all read the same object.
/// </summary>
public abstract record OpCase
{
    /// <summary>The op and its sizes, for example <c>LayerNorm.Forward[1024, 768]</c>.</summary>
    public abstract string Name { get; }

    /// <summary>Bytes that any implementation must read and write once.</summary>
    public abstract long Bytes { get; }

    /// <summary>Floating-point operations; a transcendental function counts as one.</summary>
    public abstract long Flops { get; }

    /// <summary>The error allowed when the tensors hold <paramref name="dtype"/>.</summary>
    /// <exception cref="ArgumentException"><paramref name="dtype"/> is not a float type.</exception>
    public abstract ErrorBound Error(DType dtype);

    /// <inheritdoc/>
    public sealed override string ToString() => Name;
}
