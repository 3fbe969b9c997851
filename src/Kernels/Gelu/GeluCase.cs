using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="Gelu"/>.</summary>
/// <param name="Elements">Number of elements.</param>
/// <param name="DType">Dtype of all tensors.</param>
/// <param name="Tanh">The tanh form.</param>
/// <param name="Backward">The backward op.</param>
public sealed record GeluCase(long Elements, DType DType, bool Tanh, bool Backward) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"Gelu.{(Backward ? "Backward" : "Forward")}{(Tanh ? "(tanh)" : string.Empty)}[{Elements}]";

    /// <inheritdoc/>
    public override long Bytes => (Backward ? 3 : 2) * Elements * DType.Size();

    /// <inheritdoc/>
    public override long Flops => Elements * (Tanh ? (Backward ? 16 : 9) : (Backward ? 24 : 22));

    /// <summary>With S = |x| forward and S = |dy| backward.</summary>
    public override ErrorBound Error(DType dtype) => (Tanh, Backward) switch
    {
        (true, false) => ErrorBound.Roundings(
            dtype,
            8,
            "w is off by 4u relative, which moves x·σ(w) by |x|·|w|σ(1−σ)·4u ≤ 0.9u·|x|; σ 5u, product 1u"),
        (true, true) => ErrorBound.Roundings(
            dtype,
            24,
            "σ: 5u + 0.224·4u; |x·w′| ≤ 3|w| and w²σ(1−σ) ≤ 0.44, |w|σ(1−σ) ≤ 0.224, so the second term: 3·0.44·4u + 3·0.224·16u; 2u to join"),
        (false, false) => ErrorBound.Roundings(
            dtype,
            dtype == DType.F64 ? 42 : 8,
            "Φ: see VectorMath.Normal (float 6u, double 40u absolute); product 1u"),
        (false, true) => ErrorBound.Roundings(
            dtype,
            dtype == DType.F64 ? 48 : 12,
            "Φ as forward; |x|·φ(x) ≤ 0.242 with x²∕2 + 6 roundings: 2u; 2u to join"),
    };
}
