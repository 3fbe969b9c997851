using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A case of <see cref="Merge.Apply(Tensor, Tensor, Tensor, float, bool)"/>.</summary>
/// <param name="Outputs">N.</param>
/// <param name="Inputs">K.</param>
/// <param name="Rank">r, summed over the adapters.</param>
/// <param name="DType">Dtype of the matrix and the adapters.</param>
public sealed record MergeCase(int Outputs, int Inputs, int Rank, DType DType) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"Merge.Apply[{Outputs}, {Inputs}] rank {Rank} {DType.Name()}";

    /// <summary>The matrix in and out, A and B in.</summary>
    public override long Bytes => DType.Size() * ((2L * Outputs * Inputs) + ((long)Rank * (Outputs + Inputs)));

    /// <inheritdoc/>
    public override long Flops => (2L * Rank + 1) * Outputs * Inputs;

    /// <summary>S is |w| + Σ |scale·b·a|: r fused multiply-adds, the rounding of scale·b, and the addition to w.</summary>
    public override ErrorBound Error(DType dtype) => ErrorBound.Roundings(dtype, Rank + 2, "rank multiply-adds, scale·B, w + Δ");
}
