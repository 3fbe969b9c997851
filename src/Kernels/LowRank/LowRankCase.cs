using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A case of <see cref="LowRank"/>.</summary>
/// <param name="Rows">R.</param>
/// <param name="Inputs">K.</param>
/// <param name="Outputs">N.</param>
/// <param name="Rank">r.</param>
/// <param name="DType">Element type of activations and weights.</param>
/// <param name="Backward">Whether this is the backward with all three gradients.</param>
public sealed record LowRankCase(int Rows, int Inputs, int Outputs, int Rank, DType DType, bool Backward) : OpCase
{
    /// <inheritdoc/>
    public override string Name =>
        $"LowRank.{(Backward ? "Backward" : "Forward")}[{Rows}, {Inputs} → {Outputs}, rank {Rank}] {DType.Name()}";

    /// <inheritdoc/>
    public override long Bytes
    {
        get
        {
            long input = (long)Rows * Inputs;
            long output = (long)Rows * Outputs;
            long weights = (long)Rank * (Inputs + Outputs);
            long saved = (long)Rows * Rank * Check.Statistics(DType).Size();

            // Forward: x, A, B in, y in and out, s out. Backward: dy, x, s, A, B in, dx, dA, dB in and out.
            return (DType.Size() * (Backward ? output + (3 * input) + (3 * weights) : input + (2 * output) + weights)) + saved;
        }
    }

    /// <inheritdoc/>
    public override long Flops => (Backward ? 4L : 2L) * Rows * Rank * (Inputs + Outputs);

    /// <summary>
    /// The magnitude S of an element is what it held before plus the sum over both products of absolute values. Each
    /// product of depth k contributes k + 34 + k/384 roundings (see <see cref="CpuGemm"/>), the scale one more; R, K and N
    /// are the depths of dA and dB, s, and ds.
    /// </summary>
    public override ErrorBound Error(DType dtype)
    {
        int depth = Backward ? Math.Max(Rows + Outputs, Rank + Outputs) : Inputs + Rank;
        return ErrorBound.Roundings(dtype, depth + (depth / 384) + 70, "both products' depths, 34 each for partial sums, 2 for scale and addition");
    }

    /// <summary>
    /// The bound where A, B and s (in the backward B, ds and A) are rounded to the activations' dtype on the way, as on CUDA:
    /// three roundings more in each product of an output's magnitude.
    /// </summary>
    public ErrorBound RoundedError(DType dtype)
    {
        ErrorBound bound = Error(dtype);
        return bound with { Arithmetic = bound.Arithmetic + (3 * ErrorBound.UnitRoundoff(DType)) };
    }
}
