using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A case of <see cref="LowRank.GradientNormed"/>; the norm's input [Rows, Columns] is read once.</summary>
/// <param name="Rows">M.</param>
/// <param name="Columns">K.</param>
/// <param name="Rank">r.</param>
/// <param name="DType">Element type of all operands but row statistics; gradients of A are f32.</param>
/// <param name="Centered">LayerNorm instead of RMSNorm.</param>
public sealed record LowRankNormedCase(int Rows, int Columns, int Rank, DType DType, bool Centered) : OpCase
{
    // The depth of the sum over rows, partial sums and what joins them; the norm's statistics: additions in sequence of the mean and
    // of the variance, which counts half, root and quotient.
    private double Roundings => Rows + 70 + (1.5 * RowSum.Depth(Columns, DType)) + 10;

    /// <inheritdoc/>
    public override string Name => $"LowRank.GradientNormed[{Rows}, {Columns}] rank {Rank} of {(Centered ? "LayerNorm" : "RmsNorm")} {DType.Name()}";

    /// <inheritdoc/>
    public override long Bytes =>
        ((((long)Rows * (Columns + Rank)) + Columns) * DType.Size()) +
        ((((Centered ? 2L : 1L) * Rows) + (2L * Columns * Rank)) * Check.Statistics(DType).Size());

    /// <inheritdoc/>
    public override long Flops => 2L * Rows * Columns * Rank;

    /// <summary>
    /// What a magnitude before the mean is subtracted counts in S, in which one after it counts 1: Σ F·x and Σ F·mean are each off by
    /// their own roundings in the compute dtype, whatever cancels between them, but not by the storage's. Those are n·2⁻²⁴ against
    /// 2⁻⁸ for bf16: the bound of a sum over n = 1,000 rows doubles where |x| + |mean| is about 65 times |x − mean|.
    /// </summary>
    public double CancellationShare => Roundings * ErrorBound.ComputeRoundoff(DType) / Relative;

    private double Relative => ErrorBound.UnitRoundoff(DType) + (Roundings * ErrorBound.ComputeRoundoff(DType));

    /// <summary>
    /// S = |dA before| + s + <see cref="CancellationShare"/>·c, where s is the sum over rows of |F·w|·|x − mean| + |dS·b|, and c, for
    /// LayerNorm alone, that of |F·w|·(|x| + the row's mean of |x|). The storage's roundoff u once: F is rounded to it, by which the sums
    /// with x and with the mean change alike, so that each term is off by u of |x − mean|; or x̂ is rounded where it is formed again.
    /// Sums of n terms are off by n roundings of the compute dtype, of s where nothing cancels, and of c. Channels do not mix: one of
    /// large magnitude does not touch another's error.
    /// </summary>
    public override ErrorBound Error(DType dtype) => new(
        ErrorBound.UnitRoundoff(dtype),
        Relative,
        ErrorBound.SubnormalRoundoff(dtype),
        "the rounding of F or x̂ to storage; the depth of the sum, partial sums, the norm's statistics");
}
