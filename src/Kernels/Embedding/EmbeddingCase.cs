using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="Embedding"/>.</summary>
/// <param name="Ids">Number of ids N.</param>
/// <param name="Vocabulary">Rows of the table V.</param>
/// <param name="Width">Columns of the table D.</param>
/// <param name="DType">Dtype of the table and the rows.</param>
/// <param name="Backward">The backward op.</param>
public sealed record EmbeddingCase(int Ids, int Vocabulary, int Width, DType DType, bool Backward) : OpCase
{
    private long Elements => (long)Ids * Width;

    /// <inheritdoc/>
    public override string Name => $"Embedding.{(Backward ? "Backward" : "Forward")}[{Ids}, {Width}] of {Vocabulary}";

    /// <inheritdoc/>
    public override long Bytes => (4L * Ids) + ((Backward ? 3 : 2) * Elements * DType.Size());

    /// <inheritdoc/>
    public override long Flops => Backward ? Elements : 0;

    /// <summary>Forward is exact. Backward: S = |dTable before| + Σ|dy| of the row's id.</summary>
    public override ErrorBound Error(DType dtype) => Backward
        ? ErrorBound.Roundings(dtype, Ids, "at most one rounding per position added")
        : new ErrorBound(0, 0, 0, "a copy is exact");
}
