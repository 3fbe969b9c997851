using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="Silu"/>.</summary>
/// <param name="Elements">Number of elements.</param>
/// <param name="DType">Dtype of all tensors.</param>
/// <param name="Backward">The backward op.</param>
public sealed record SiluCase(long Elements, DType DType, bool Backward) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"Silu.{(Backward ? "Backward" : "Forward")}[{Elements}]";

    /// <inheritdoc/>
    public override long Bytes => (Backward ? 3 : 2) * Elements * DType.Size();

    /// <inheritdoc/>
    public override long Flops => Elements * (Backward ? 9 : 5);

    /// <summary>Forward S = |y|; backward S = |dy|·σ·(1 + |x|·(1 − σ)).</summary>
    public override ErrorBound Error(DType dtype) => Backward
        ? ErrorBound.Roundings(dtype, 14, "σ and 1 − σ 5u each, multiply-add 2u, products 2u")
        : ErrorBound.Roundings(dtype, 6, "σ 5u (VectorMath.Sigmoid), product 1u");
}
