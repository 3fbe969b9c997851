using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="Cast"/>.</summary>
/// <param name="Elements">Number of elements.</param>
/// <param name="From">Dtype read.</param>
/// <param name="To">Dtype written.</param>
public sealed record CastCase(long Elements, DType From, DType To) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"Cast.Run({From.Name()} → {To.Name()})[{Elements}]";

    /// <inheritdoc/>
    public override long Bytes => Elements * (From.Size() + To.Size());

    /// <inheritdoc/>
    public override long Flops => 0;

    /// <inheritdoc/>
    public override ErrorBound Error(DType dtype) => ErrorBound.Roundings(dtype, 0, "one rounding to storage");
}
