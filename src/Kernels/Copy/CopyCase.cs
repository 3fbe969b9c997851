using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="Copy"/>.</summary>
/// <param name="Elements">Number of elements.</param>
/// <param name="DType">Dtype of both tensors.</param>
public sealed record CopyCase(long Elements, DType DType) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"Copy.Run[{Elements}]";

    /// <inheritdoc/>
    public override long Bytes => 2 * Elements * DType.Size();

    /// <inheritdoc/>
    public override long Flops => 0;

    /// <inheritdoc/>
    public override ErrorBound Error(DType dtype) => new(0, 0, 0, "a copy is exact");
}
