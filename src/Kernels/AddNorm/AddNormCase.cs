using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>One case of <see cref="AddNorm"/>, all tensors of one dtype; LayerNorm has a bias.</summary>
/// <param name="Rows">Number of rows R.</param>
/// <param name="Columns">Number of columns C.</param>
/// <param name="DType">Dtype of all tensors but the statistics.</param>
/// <param name="Layer">LayerNorm, else RMSNorm.</param>
public sealed record AddNormCase(long Rows, long Columns, DType DType, bool Layer) : OpCase
{
    private OpCase Norm => Layer ? new LayerNormCase(Rows, Columns, DType, false) : new RmsNormCase(Rows, Columns, DType, false);

    /// <inheritdoc/>
    public override string Name => $"AddNorm.{(Layer ? "LayerNorm" : "RmsNorm")}[{Rows}, {Columns}]";

    /// <summary>The norm's, and another operand read and the sum written.</summary>
    public override long Bytes => Norm.Bytes + (DType.Size() * 2 * Rows * Columns);

    /// <inheritdoc/>
    public override long Flops => Norm.Flops + (Rows * Columns);

    /// <summary>The norm's for y, with S of the stored sum s, which is exact but for its one rounding.</summary>
    public override ErrorBound Error(DType dtype) => Norm.Error(dtype);
}
