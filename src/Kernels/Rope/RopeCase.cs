using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="Rope"/>: x [Batch, Tokens, Heads, HeadDim].</summary>
/// <param name="Batch">B.</param>
/// <param name="Tokens">T.</param>
/// <param name="Heads">H.</param>
/// <param name="HeadDim">D.</param>
/// <param name="DType">Dtype of x and y.</param>
public sealed record RopeCase(int Batch, int Tokens, int Heads, int HeadDim, DType DType) : OpCase
{
    private long Elements => (long)Batch * Tokens * Heads * HeadDim;

    /// <inheritdoc/>
    public override string Name => $"Rope.Apply[{Batch}, {Tokens}, {Heads}, {HeadDim}]";

    /// <inheritdoc/>
    public override long Bytes =>
        (2 * Elements * DType.Size()) + ((long)Batch * Tokens * (4 + (HeadDim * (DType == DType.F64 ? 8 : 4))));

    /// <inheritdoc/>
    public override long Flops => 3 * Elements;

    /// <summary>S = |x[i]·cos θ| + |x[j]·sin θ|.</summary>
    public override ErrorBound Error(DType dtype) => ErrorBound.Roundings(dtype, 2, "a product and the sum");
}
