using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>Which pass over a large operand of the low-rank path.</summary>
public enum LowRankPass
{
    /// <summary>S = scale·X·Aᵀ, <see cref="LowRank.Down"/>.</summary>
    Down,

    /// <summary>dS = scale·dY·B and dB += dYᵀ·S, <see cref="LowRank.GradientY"/>.</summary>
    GradientY,

    /// <summary>dA += dSᵀ·X, <see cref="LowRank.GradientX"/>.</summary>
    GradientX,
}

/// <summary>A case of one pass of the bordered low-rank path; its operand [Rows, Columns] is read once.</summary>
/// <param name="Pass">Which pass.</param>
/// <param name="Rows">M.</param>
/// <param name="Columns">K, or N for the gradient of Y.</param>
/// <param name="Rank">r.</param>
/// <param name="DType">Element type of the operand; gradients of A and B are f32.</param>
public sealed record LowRankPassCase(LowRankPass Pass, int Rows, int Columns, int Rank, DType DType) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"LowRank.{Pass}[{Rows}, {Columns}] rank {Rank} {DType.Name()}";

    /// <inheritdoc/>
    public override long Bytes
    {
        get
        {
            long operand = (long)Rows * Columns * DType.Size();
            long narrow = (long)Rows * Rank * DType.Size();
            long factor = (long)Columns * Rank * DType.Size();
            long gradient = 2L * Columns * Rank * Check.Statistics(DType).Size();
            return operand + Pass switch
            {
                LowRankPass.Down => narrow + factor,
                LowRankPass.GradientY => (2 * narrow) + factor + gradient,
                _ => narrow + gradient,
            };
        }
    }

    /// <inheritdoc/>
    public override long Flops => (Pass == LowRankPass.GradientY ? 4L : 2L) * Rows * Columns * Rank;

    /// <summary>S is the sum of absolute products; each product of depth k contributes k roundings, and the scale one more.</summary>
    public override ErrorBound Error(DType dtype) => ErrorBound.Roundings(
        dtype, Math.Max(Rows, Columns) + 70, "the depth of the sum, partial sums, the scale");
}
