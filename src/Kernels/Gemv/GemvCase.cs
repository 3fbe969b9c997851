using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A case of <see cref="Gemv"/> with a bias.</summary>
/// <param name="Rows">M.</param>
/// <param name="Inputs">K.</param>
/// <param name="Outputs">N.</param>
/// <param name="Rank">r; 0 for no low-rank path.</param>
/// <param name="DType">Element type.</param>
public sealed record GemvCase(int Rows, int Inputs, int Outputs, int Rank, DType DType) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"Gemv.Run[{Rows}, {Inputs} → {Outputs}, rank {Rank}] {DType.Name()}";

    /// <inheritdoc/>
    public override long Bytes =>
        DType.Size() * (((long)Inputs * Outputs) + ((long)(Rows + Rank) * (Inputs + Outputs)) + Outputs);

    /// <inheritdoc/>
    public override long Flops => 2L * Rows * (((long)Inputs * Outputs) + ((long)Rank * (Inputs + Outputs)));

    /// <summary>
    /// The magnitude of an element is the sum of absolute values over the product, the bias and the low-rank path, which is
    /// two products deep: K + r roundings of f32 at most, 34 each for partial sums of three products (see
    /// <see cref="CpuGemm"/>; a GPU's 8 warps and 8 splits are fewer), 3 for scale and additions. The result is rounded once.
    /// </summary>
    public override ErrorBound Error(DType dtype)
    {
        int depth = Inputs + Rank;
        return ErrorBound.Roundings(dtype, depth + (depth / 384) + 105, "both products' depths, 34 for each product's partial sums, 3 for scale and additions");
    }
}
