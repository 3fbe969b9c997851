using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>The call of a <see cref="MergeCase"/>.</summary>
public enum MergeCall
{
    /// <summary><see cref="Merge.Apply"/>.</summary>
    Apply,

    /// <summary><see cref="Merge.ApplyExact"/>.</summary>
    ApplyExact,

    /// <summary><see cref="Merge.Undo"/>.</summary>
    Undo,

    /// <summary><see cref="Merge.Report"/>.</summary>
    Report,
}

/// <summary>A case of <see cref="Merge"/>: matrices of one shape in one call.</summary>
/// <param name="Outputs">N.</param>
/// <param name="Inputs">K.</param>
/// <param name="Rank">r, summed over the adapters.</param>
/// <param name="DType">Dtype of the matrices and the adapters.</param>
/// <param name="Matrices">Their number.</param>
/// <param name="Call">What is done to them.</param>
public sealed record MergeCase(int Outputs, int Inputs, int Rank, DType DType, int Matrices = 1, MergeCall Call = MergeCall.Apply) : OpCase
{
    /// <inheritdoc/>
    public override string Name =>
        $"Merge.{Call}{(Matrices == 1 ? "" : $" {Matrices} ×")}[{Outputs}, {Inputs}] rank {Rank} {DType.Name()}";

    /// <summary>The matrices in and, but for a report, out; A and B in. Records, whose number depends on the values, are not counted.</summary>
    public override long Bytes =>
        Matrices * DType.Size() * (((Call == MergeCall.Report ? 1L : 2L) * Outputs * Inputs) + ((long)Rank * (Outputs + Inputs)));

    /// <summary>r multiply-adds and a sum for each element; for records a difference, for a report two and two squares in f64.</summary>
    public override long Flops => Matrices * ((2L * Rank) + 1 + Call switch
    {
        MergeCall.ApplyExact => 1,
        MergeCall.Report => 6,
        _ => 0,
    }) * Outputs * Inputs;

    /// <summary>
    /// S is |w| + Σ |scale·b·a|: the rounding of scale·b, Δ and the addition to w. Δ takes r roundings of fused multiply-adds on
    /// the CPU; on CUDA 42 and one for each slice of up to 16 ranks (derived in kernels-cu/common/delta.cuh).
    /// </summary>
    public override ErrorBound Error(DType dtype) =>
        ErrorBound.Roundings(dtype, Rank + (dtype == DType.F64 ? 2 : 44), "Δ: rank multiply-adds or 42 and its slices; scale·B, w + Δ");
}
