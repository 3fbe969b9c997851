using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A case of <see cref="Attention"/> in which the queries are the last positions of the keys and each sees all earlier keys.</summary>
/// <param name="Batch">Sequences.</param>
/// <param name="Queries">Queries of a sequence.</param>
/// <param name="Keys">Keys of a sequence.</param>
/// <param name="Heads">Query heads.</param>
/// <param name="KeyHeads">Key/value heads.</param>
/// <param name="Dimension">Head dimension.</param>
/// <param name="DType">Element type.</param>
/// <param name="Backward">Whether this is the backward.</param>
public sealed record AttentionCase(
    int Batch, int Queries, int Keys, int Heads, int KeyHeads, int Dimension, DType DType, bool Backward) : OpCase
{
    /// <summary>
    /// Whether the probabilities and ds are rounded to the tensors' dtype before they enter a product, as the tensor-core
    /// kernels do for bf16 and f16 with more than a few queries.
    /// </summary>
    public bool RoundsProbabilities { get; init; }

    /// <inheritdoc/>
    public override string Name =>
        $"Attention.{(Backward ? "Backward" : "Forward")}[{Batch}, {Queries} of {Keys}, {Heads}/{KeyHeads}, {Dimension}] {DType.Name()}";

    /// <inheritdoc/>
    public override long Bytes
    {
        get
        {
            long query = (long)Batch * Queries * Heads * Dimension * DType.Size();
            long key = (long)Batch * Keys * KeyHeads * Dimension * DType.Size();
            long statistics = (long)Batch * Queries * Heads * Check.Statistics(DType).Size();

            // Forward: q, k, v in, o and lse out. Backward: q, o, dO, k, v, lse in, dq, dk, dv out.
            return Backward ? (4 * query) + (4 * key) + statistics : (2 * query) + (2 * key) + statistics;
        }
    }

    /// <summary>Two products of 2·D for each visible pair forward; five (s, dp, dv, dk, dq) backward.</summary>
    public override long Flops
    {
        get
        {
            long offset = Keys - Queries;
            long pairs = (Queries * offset) + (Queries * (Queries + 1L) / 2);
            return Batch * Heads * pairs * Dimension * (Backward ? 10 : 4);
        }
    }

    /// <summary>
    /// The magnitude S of an element is the sum over the visible pairs behind it of the products' absolute values times
    /// g, the condition of the softmax: g = max(1, max_j scale·Σ|q||k|), in the backward plus |lse|.
    /// </summary>
    /// <remarks>
    /// Forward: a score is off by (D + 2)·u·g, so a probability is off by twice that relative to itself (its own score and
    /// the denominator's), plus 8u for the two exponentials, plus the sum's and the output's Keys·u each.
    /// Backward, from given lse: the score as before, |lse|·u for the subtraction, the D + 2 of dp and of δ, 8u for the
    /// exponential and the products, and Queries or Keys for the final sum.
    /// Where p and ds are rounded to the dtype, each product is off by its unit roundoff more.
    /// </remarks>
    public override ErrorBound Error(DType dtype)
    {
        ErrorBound bound = ErrorBound.Roundings(
            dtype,
            (2 * (Dimension + 2)) + (2 * Keys) + 16,
            "2(D + 2) for the scores or dp, 2·Keys for the sums, 16 for exponentials and scaling");
        return RoundsProbabilities
            ? bound with
            {
                Arithmetic = bound.Arithmetic + ErrorBound.UnitRoundoff(dtype),
                Derivation = bound.Derivation + ", one rounding of p or ds to the dtype",
            }
            : bound;
    }
}
