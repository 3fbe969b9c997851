using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="RmsNorm"/>, all tensors of one dtype.</summary>
/// <param name="Rows">Number of rows R.</param>
/// <param name="Columns">Number of columns C.</param>
/// <param name="DType">Dtype of all tensors but the statistics.</param>
/// <param name="Backward">The backward op.</param>
/// <param name="Weights">Whether backward computes the gradient of the weights beside that of x.</param>
public sealed record RmsNormCase(long Rows, long Columns, DType DType, bool Backward, bool Weights = true) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"RmsNorm.{(Backward ? "Backward" : "Forward")}[{Rows}, {Columns}]";

    /// <inheritdoc/>
    public override long Bytes =>
        (DType.Size() * (Backward ? (3 * Rows * Columns) + ((Weights ? 3 : 1) * Columns) : (2 * Rows * Columns) + Columns))
        + (Rows * (DType == DType.F64 ? 8 : 4));

    /// <inheritdoc/>
    public override long Flops => Rows * Columns * (Backward ? 10 : 4);

    /// <summary>Forward S = |y|; backward, dx: S = rstd·(|g| + |x̂|·mean|g·x̂|).</summary>
    public override ErrorBound Error(DType dtype) => Backward
        ? ErrorBound.Roundings(
            dtype, (Columns / (dtype == DType.F64 ? 2 : 4)) + 14, "the mean: the additions in sequence and 4; 6 roundings to join")
        : ErrorBound.Roundings(
            dtype, (RowSum.Depth(Columns, dtype) / 2) + 7, "rstd: half of the additions in sequence and 2; root, quotient; 2 products");

    /// <summary>The bound of dw, S = |dw before| + Σ|dy·x̂|.</summary>
    public ErrorBound WeightGradientError(DType dtype) =>
        ErrorBound.Roundings(dtype, Rows + 4, "at most one rounding per row added; 3 in a term");
}
