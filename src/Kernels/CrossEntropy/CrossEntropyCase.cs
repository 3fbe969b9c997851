using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="CrossEntropy"/>.</summary>
/// <param name="Rows">Number of rows R.</param>
/// <param name="Vocabulary">Number of columns V.</param>
/// <param name="DType">Dtype of the logits.</param>
/// <param name="Gradient">The gradient is computed too.</param>
public sealed record CrossEntropyCase(long Rows, int Vocabulary, DType DType, bool Gradient) : OpCase
{
    private long Elements => Rows * Vocabulary;

    /// <inheritdoc/>
    public override string Name => $"CrossEntropy.Forward{(Gradient ? "+gradient" : string.Empty)}[{Rows}, {Vocabulary}]";

    /// <inheritdoc/>
    public override long Bytes =>
        ((Gradient ? 2 : 1) * Elements * DType.Size()) + (Rows * (4 + (DType == DType.F64 ? 8 : 4)));

    /// <inheritdoc/>
    public override long Flops => Elements * (Gradient ? 7 : 4);

    /// <summary>
    /// Losses: S = max(1, |loss|). Gradient: S = gradScale·(p·(1 + max − x) + onehot) with the row's largest logit max.
    /// </summary>
    public override ErrorBound Error(DType dtype) => ErrorBound.Roundings(
        dtype,
        (RowLoop.Block / (dtype == DType.F64 ? 4 : 8)) + 12 + Math.Log(Vocabulary),
        "exp 3u; x − max is rounded, |x − max|·u, on average over softmax at most log V; additions in sequence in a block, "
        + "two accumulators of 128 bits or more; blocks and the loss are joined in f64; 2 roundings in the gradient; on a GPU exp up "
        + "to 15u and |x − max|·u twice, but only some tens of additions in sequence");
}
