using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="LayerNorm"/> with a bias, all tensors of one dtype.</summary>
/// <param name="Rows">Number of rows R.</param>
/// <param name="Columns">Number of columns C.</param>
/// <param name="DType">Dtype of all tensors but the statistics.</param>
/// <param name="Backward">The backward op.</param>
/// <param name="Weights">Whether backward computes the gradients of weights and bias beside that of x.</param>
public sealed record LayerNormCase(long Rows, long Columns, DType DType, bool Backward, bool Weights = true) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"LayerNorm.{(Backward ? "Backward" : "Forward")}[{Rows}, {Columns}]";

    /// <inheritdoc/>
    public override long Bytes =>
        (DType.Size() * (Backward ? (3 * Rows * Columns) + ((Weights ? 5 : 1) * Columns) : (2 * Rows * Columns) + (2 * Columns)))
        + (2 * Rows * (DType == DType.F64 ? 8 : 4));

    /// <inheritdoc/>
    public override long Flops => Rows * Columns * (Backward ? 15 : 8);

    /// <summary>
    /// Forward S = |w|·(|x̂| + rstd·mean|x|) + |b|; backward, dx: S = rstd·(|g| + mean|g| + |x̂|·mean|g·x̂|).
    /// </summary>
    public override ErrorBound Error(DType dtype) => Backward
        ? ErrorBound.Roundings(
            dtype, AccumulateDepth(dtype) + 10, "the two means: the additions in sequence and 5; 5 roundings to join them")
        : ErrorBound.Roundings(
            dtype,
            RowSum.Depth(Columns, dtype) + 8,
            "mean: the additions in sequence k; rstd: half of (k + 3), 2 for root and quotient; 4 roundings to join them");

    /// <summary>The bound of dw (S = |dw before| + Σ|dy·x̂|) and db (S = |db before| + Σ|dy|).</summary>
    public ErrorBound WeightGradientError(DType dtype) =>
        ErrorBound.Roundings(dtype, Rows + 4, "at most one rounding per row added; 3 in a term");

    // Backward sums with one accumulator of at least 128 bits.
    private double AccumulateDepth(DType dtype) => (Columns / (dtype == DType.F64 ? 2 : 4)) + 4;
}
