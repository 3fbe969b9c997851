using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A matrix and the adapters that are merged into it.</summary>
/// <param name="W">[N, K], or [K, N] when <paramref name="Transposed"/>; f32, bf16, f16, on the CPU also f64; rows may have gaps between them.</param>
/// <param name="Terms">The adapters, in the order in which they are added up; none: W + 0.</param>
/// <param name="Transposed">Whether the matrix is stored [inputs, outputs], as GPT-2's Conv1D.</param>
public readonly record struct MergeTarget(Tensor W, IReadOnlyList<MergeTerm> Terms, bool Transposed);

/// <summary>A target whose arguments have been checked.</summary>
internal readonly record struct MergeMatrix(RowMatrix W, IReadOnlyList<MergeTerm> Terms, bool Transposed)
{
    public int Inputs => Transposed ? W.Rows : W.Columns;

    public int Outputs => Transposed ? W.Columns : W.Rows;

    public long Elements => (long)W.Rows * W.Columns;

    /// <summary>The ranks of all adapters together.</summary>
    public int Rank => Terms.Sum(static t => t.A.Shape[0]);
}
