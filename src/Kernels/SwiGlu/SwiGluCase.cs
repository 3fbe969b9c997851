using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="SwiGlu"/>.</summary>
/// <param name="Elements">Number of elements.</param>
/// <param name="DType">Dtype of all tensors.</param>
/// <param name="Backward">The backward op.</param>
public sealed record SwiGluCase(long Elements, DType DType, bool Backward) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"SwiGlu.{(Backward ? "Backward" : "Forward")}[{Elements}]";

    /// <inheritdoc/>
    public override long Bytes => (Backward ? 5 : 3) * Elements * DType.Size();

    /// <inheritdoc/>
    public override long Flops => Elements * (Backward ? 12 : 6);

    /// <summary>Forward and dUp: S = |result|; dGate: S = |dy·up|·σ·(1 + |gate|·(1 − σ)).</summary>
    public override ErrorBound Error(DType dtype) => Backward
        ? ErrorBound.Roundings(dtype, 15, "silu′ 13u (SiluCase), two products")
        : ErrorBound.Roundings(dtype, 7, "silu 6u (SiluCase), product 1u");
}
