using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="Dropout"/>.</summary>
/// <param name="Elements">Number of elements.</param>
/// <param name="DType">Dtype of both tensors.</param>
public sealed record DropoutCase(long Elements, DType DType) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"Dropout.Apply[{Elements}]";

    /// <inheritdoc/>
    public override long Bytes => 2 * Elements * DType.Size();

    /// <inheritdoc/>
    public override long Flops => Elements;

    /// <inheritdoc/>
    public override ErrorBound Error(DType dtype) => ErrorBound.Roundings(dtype, 2, "1 ∕ (1 − p) rounded, and the product");
}
