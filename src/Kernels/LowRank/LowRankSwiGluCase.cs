using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A case of <see cref="LowRank.SwiGluBackward"/>: dY, gate and up are read once, their gradients written.</summary>
/// <param name="Rows">M.</param>
/// <param name="Columns">K.</param>
/// <param name="Rank">r.</param>
/// <param name="DType">Element type of all operands; gradients of A are f32.</param>
public sealed record LowRankSwiGluCase(int Rows, int Columns, int Rank, DType DType) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"LowRank.SwiGluBackward[{Rows}, {Columns}] rank {Rank} {DType.Name()}";

    /// <inheritdoc/>
    public override long Bytes =>
        (((5L * Rows * Columns) + ((long)Rows * Rank)) * DType.Size()) + (2L * Columns * Rank * Check.Statistics(DType).Size());

    /// <inheritdoc/>
    public override long Flops => (long)Rows * Columns * ((2L * Rank) + 18);

    /// <summary>That of dA, with y as SwiGLU rounded it; S is the sum of absolute products, each of which contributes a rounding.</summary>
    public override ErrorBound Error(DType dtype) => ErrorBound.Roundings(dtype, Rows + 70, "the depth of the sum, partial sums");
}
