using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A case of <see cref="GroupedLowRank"/>: adapters of one rank that rows use in turn.</summary>
/// <param name="Rows">R.</param>
/// <param name="Inputs">K.</param>
/// <param name="Outputs">N.</param>
/// <param name="Rank">r, the largest.</param>
/// <param name="Adapters">Adapters in use, at most as many as rows of the batch.</param>
/// <param name="DType">Element type of the activations.</param>
/// <param name="Backward">Whether this is the backward with all gradients.</param>
public sealed record GroupedLowRankCase(int Rows, int Inputs, int Outputs, int Rank, int Adapters, DType DType, bool Backward) : OpCase
{
    /// <inheritdoc/>
    public override string Name =>
        $"GroupedLowRank.{(Backward ? "Backward" : "Forward")}[{Rows}, {Inputs} → {Outputs}, {Adapters} × rank {Rank}] {DType.Name()}";

    /// <inheritdoc/>
    public override long Bytes
    {
        get
        {
            long input = (long)Rows * Inputs;
            long output = (long)Rows * Outputs;
            long weights = (long)Adapters * Rank * (Inputs + Outputs);
            long saved = (long)Rows * Rank * Check.Statistics(DType).Size();

            // Forward: x, A, B in, y in and out, s out. Backward: dy, x, s, A, B in, dx in and out, dA, dB in and out in f32.
            return saved + (Backward
                ? (DType.Size() * (output + (3 * input) + weights)) + (2 * Check.Statistics(DType).Size() * weights)
                : DType.Size() * (input + (2 * output) + weights));
        }
    }

    /// <inheritdoc/>
    public override long Flops => (Backward ? 4L : 2L) * Rows * Rank * (Inputs + Outputs);

    /// <summary>
    /// That of <see cref="LowRankCase"/>: every row is the low-rank path of one adapter. Sums over splits are added one by one:
    /// up to 16 roundings more in each of two products.
    /// </summary>
    public override ErrorBound Error(DType dtype) => WithSplits(Of.Error(dtype), dtype);

    /// <summary>The bound where A, B and s are rounded to the activations' dtype on the way, as on CUDA.</summary>
    public ErrorBound RoundedError(DType dtype) => WithSplits(Of.RoundedError(dtype), dtype);

    private LowRankCase Of => new(Rows, Inputs, Outputs, Rank, DType, Backward);

    private static ErrorBound WithSplits(ErrorBound bound, DType dtype) =>
        bound with { Arithmetic = bound.Arithmetic + (32 * ErrorBound.ComputeRoundoff(dtype)) };
}
