using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>DoRA's norms of a weight [N,K] adapted with rank r.</summary>
/// <param name="Outputs">N.</param>
/// <param name="Inputs">K.</param>
/// <param name="Rank">r.</param>
/// <param name="DType">Dtype of the weight.</param>
public sealed record DoraCase(int Outputs, int Inputs, int Rank, DType DType) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"Dora.WeightNorm[{Outputs}, {Inputs}] r {Rank} {DType.Name()}";

    /// <inheritdoc/>
    public override long Bytes =>
        ((long)Outputs * Inputs * DType.Size()) + (4L * ((Rank * ((long)Outputs + Inputs)) + Outputs));

    /// <inheritdoc/>
    public override long Flops => (long)Outputs * Inputs * ((2L * Rank) + 2);

    /// <summary>
    /// Each element of W + s·B·A takes a chain of r + 34 roundings on the CPU (see <see cref="CpuGemm"/>), on CUDA r + 44 at most (see
    /// <see cref="MergeCase.Error"/>), its square and the sum of K
    /// squares add K + 1, of which the root keeps half; the norm of the magnitudes |W| + |s|·|B|·|A| is S. The result is
    /// stored in the compute dtype, whatever the weight's.
    /// </summary>
    public override ErrorBound Error(DType dtype) => ErrorBound.Roundings(
        dtype == DType.F64 ? DType.F64 : DType.F32, Rank + 44 + ((Inputs + 1) / 2.0) + 1, "the product's chain, the squares' sum and the root");
}
