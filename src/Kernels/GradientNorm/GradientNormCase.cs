using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A case of <see cref="GradientNorm"/>.</summary>
/// <param name="Elements">Elements of all tensors together.</param>
/// <param name="DType">Their dtype.</param>
public sealed record GradientNormCase(long Elements, DType DType) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"GradientNorm.Compute[{Elements}] {DType.Name()}";

    /// <inheritdoc/>
    public override long Bytes => Elements * DType.Size();

    /// <inheritdoc/>
    public override long Flops => 2 * Elements;

    /// <summary>
    /// The sum is in double whatever the dtype: a chain of at most Elements additions of positive numbers, so the root is
    /// off by half of Elements·u, and 2u for the squares and the root.
    /// </summary>
    public override ErrorBound Error(DType dtype) =>
        new(0, ((Elements / 2.0) + 2) * ErrorBound.UnitRoundoff(DType.F64), 0, "double additions");
}
