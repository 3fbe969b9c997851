using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="GeluLinear.Backward"/>: dx [Rows, Inputs] of dy [Rows, Outputs].</summary>
/// <param name="Rows">R.</param>
/// <param name="Inputs">K.</param>
/// <param name="Outputs">N.</param>
/// <param name="DType">Dtype of all tensors.</param>
public sealed record GeluLinearCase(int Rows, int Inputs, int Outputs, DType DType) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"GeluLinear.Backward[{Rows}, {Inputs} ← {Outputs}] {DType.Name()}";

    /// <inheritdoc/>
    public override long Bytes => DType.Size() * (((long)Rows * Outputs) + ((long)Inputs * Outputs) + (2L * Rows * Inputs));

    /// <inheritdoc/>
    public override long Flops => (2L * Rows * Inputs * Outputs) + (16L * Rows * Inputs);

    /// <summary>With S = Σ|dy||w|; the product may be rounded to storage before it is multiplied.</summary>
    public override ErrorBound Error(DType dtype) =>
        ErrorBound.Roundings(
            dtype,
            (1.13 * (Outputs + 34)) + (dtype == DType.F64 ? 48 : 24),
            "a chain of N fused multiply-adds times |gelu′| ≤ 1.13, and the error of gelu′ (see GeluCase)") with
        {
            Storage = 2 * ErrorBound.UnitRoundoff(dtype),
            Underflow = 3 * ErrorBound.SubnormalRoundoff(dtype),
        };
}
