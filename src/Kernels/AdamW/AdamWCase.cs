using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A case of <see cref="AdamW"/>.</summary>
/// <param name="Elements">Parameters in all slots together.</param>
/// <param name="DType">Dtype of parameters and gradients.</param>
/// <param name="Master">Whether there is an f32 master copy.</param>
public sealed record AdamWCase(long Elements, DType DType, bool Master) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"AdamW.Step[{Elements}] {DType.Name()}{(Master ? " with master" : string.Empty)}";

    /// <summary>Parameter and moments in and out, gradient in, master in and out (then the parameter only out).</summary>
    public override long Bytes
    {
        get
        {
            int state = Check.Statistics(DType).Size();
            return Elements * ((4L * state) + DType.Size() + (Master ? (2 * state) + DType.Size() : 2 * DType.Size()));
        }
    }

    /// <summary>Sixteen operations for each element, square root and divisions counted as one.</summary>
    public override long Flops => 16 * Elements;

    /// <summary>
    /// S is |p| + |update|. The update is off by 3 roundings from m, half of 4 from v, 1 each from √, ∕, +ε, · and ∕, and
    /// the scalars' own; p by its decay and the final addition.
    /// </summary>
    public override ErrorBound Error(DType dtype) => ErrorBound.Roundings(dtype, 14, "3 + 2 + 5 + 2 for the update and its scalars, 2 for p");
}
