using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A case of <see cref="LowRank.SwiGluDown"/>: gate, up and A are read once, y and S written.</summary>
/// <param name="Rows">M.</param>
/// <param name="Columns">K.</param>
/// <param name="Rank">r.</param>
/// <param name="DType">Element type of all operands.</param>
public sealed record LowRankSwiGluDownCase(int Rows, int Columns, int Rank, DType DType) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"LowRank.SwiGluDown[{Rows}, {Columns}] rank {Rank} {DType.Name()}";

    /// <inheritdoc/>
    public override long Bytes => ((3L * Rows * Columns) + ((long)Rank * (Rows + Columns))) * DType.Size();

    /// <inheritdoc/>
    public override long Flops => (long)Rows * Columns * ((2L * Rank) + 6);

    /// <summary>
    /// That of S, with y as SwiGLU rounded it (for y itself see <see cref="SwiGluCase"/>); the magnitude is the sum of absolute
    /// products times the scale. K products contribute at most a rounding each, whatever the order in which they are added, and
    /// the scale one more; partial sums are 34 + K/384 on the CPU (see <see cref="CpuGemm"/>), eight on a GPU.
    /// </summary>
    public override ErrorBound Error(DType dtype) =>
        ErrorBound.Roundings(dtype, Columns + (Columns / 384) + 35, "the depth of the sum, partial sums, the scale");
}
