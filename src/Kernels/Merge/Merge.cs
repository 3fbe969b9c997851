using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Merges adapters into frozen matrices, W ← W + Σ scale·B·A (Hu et al., LoRA, 2021, §4.1), and takes them out again with the
/// original bits. A call takes any number of matrices, each with its own shape, dtype and adapters: all of a model's layers are
/// one launch.
/// </summary>
/// <remarks>
/// Δ = Σ_a (scale_a·B_a)·A_a in fp32 (fp64 for an f64 matrix): scale·B is rounded first. On the CPU each element is then one
/// chain of fused multiply-adds from 0 over adapters and ranks in order; on CUDA tensor cores form it to the same precision
/// (kernels-cu/common/delta.cuh). Neither depends on tiling, threads, vector width or W's dtype, so that on one device Δ has the
/// same bits whenever it is computed from the same A, B and scale. W′ = round(W + Δ), the sum in the compute dtype, then
/// rounded to W's dtype. Subtracting, round(W′ − Δ), does not always give W back (bf16: 5 to
/// 10% of the elements differ, more for larger Δ), hence the <see cref="MergeCorrections"/>.
/// Δ is never held as a whole; a matrix may have a gap between its rows, which is not touched. Matrices must not overlap.
/// On CUDA tables are uploaded, so none of the calls can be recorded; <see cref="ApplyExact"/> and <see cref="Report"/> wait for
/// the device, once a call.
/// </remarks>
public static class Merge
{
    /// <summary>W ← W + Σ scale·B·A for each matrix, rounded once.</summary>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit, or a matrix is given twice.</exception>
    /// <exception cref="DeviceOutOfMemoryException">A GPU has no memory left for the packed factors; no matrix has been changed.</exception>
    public static void Apply(ReadOnlySpan<MergeTarget> targets)
    {
        const string Op = "Merge.Apply";
        MergeMatrix[] matrices = CheckArguments(Op, targets);
        switch (KindOf(targets))
        {
            case DeviceKind.Cpu:
                MergeCpu.Apply(matrices);
                break;
            case DeviceKind.Cuda:
                MergeCuda.Apply(targets[0].W.Device, matrices);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, targets[0].W.Device);
        }
    }

    /// <summary><see cref="Apply"/>, and what <see cref="Undo"/> needs.</summary>
    /// <inheritdoc cref="Apply" path="/exception[1]"/>
    /// <exception cref="DeviceOutOfMemoryException">A GPU has no memory left for the corrections; every matrix is as it was.</exception>
    public static MergeCorrections ApplyExact(ReadOnlySpan<MergeTarget> targets)
    {
        const string Op = "Merge.ApplyExact";
        MergeMatrix[] matrices = CheckArguments(Op, targets);
        return KindOf(targets) switch
        {
            DeviceKind.Cpu => new MergeCorrections(targets, MergeCpu.ApplyExact(matrices)),
            DeviceKind.Cuda => new MergeCorrections(targets, MergeCuda.ApplyExact(targets[0].W.Device, matrices)),
            _ => throw DeviceDispatch.Unsupported(Op, targets[0].W.Device),
        };
    }

    /// <summary>
    /// Gives matrices the exact bits they had before <see cref="ApplyExact"/>, provided that they have not changed since and that
    /// the targets are the same: their order, their terms' bits and their terms' order.
    /// </summary>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit, or the corrections belong to another merge.</exception>
    /// <exception cref="DeviceOutOfMemoryException">A GPU has no memory left for the packed factors; no matrix has been changed.</exception>
    public static void Undo(ReadOnlySpan<MergeTarget> targets, MergeCorrections corrections)
    {
        const string Op = "Merge.Undo";
        MergeMatrix[] matrices = CheckArguments(Op, targets);
        ArgumentNullException.ThrowIfNull(corrections);
        corrections.Require(Op, targets);
        switch (KindOf(targets))
        {
            case DeviceKind.Cpu:
                MergeCpu.Undo(matrices, corrections.Segments);
                break;
            case DeviceKind.Cuda:
                MergeCuda.Undo(targets[0].W.Device, matrices, corrections.Records!);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, targets[0].W.Device);
        }
    }

    /// <summary>What rounding would take from each matrix's update if it were merged now; nothing is changed.</summary>
    /// <returns>The errors in the order of the targets. Sums are in f64, in an order that shapes and dtypes fix on each device.</returns>
    /// <inheritdoc cref="Apply" path="/exception"/>
    public static IReadOnlyList<MergeError> Report(ReadOnlySpan<MergeTarget> targets)
    {
        const string Op = "Merge.Report";
        MergeMatrix[] matrices = CheckArguments(Op, targets);
        return KindOf(targets) switch
        {
            DeviceKind.Cpu => MergeReportCpu.Run(matrices),
            DeviceKind.Cuda => MergeCuda.Report(targets[0].W.Device, matrices),
            _ => throw DeviceDispatch.Unsupported(Op, targets[0].W.Device),
        };
    }

    // Nothing to do is done on the CPU.
    private static DeviceKind KindOf(ReadOnlySpan<MergeTarget> targets) => targets.IsEmpty ? DeviceKind.Cpu : targets[0].W.Device.Kind;

    private static MergeMatrix[] CheckArguments(string op, ReadOnlySpan<MergeTarget> targets)
    {
        var matrices = new MergeMatrix[targets.Length];
        var addresses = new HashSet<nint>();
        for (int i = 0; i < matrices.Length; i++)
        {
            MergeTarget target = targets[i];
            Tensor w = target.W;
            ArgumentNullException.ThrowIfNull(target.Terms);
            matrices[i] = new MergeMatrix(RowMatrix.Of(op, w, w), target.Terms, target.Transposed);
            Check.Rank(op, w, 2);
            Check.SameDevice(op, w, targets[0].W);
            CheckTerms(op, w, matrices[i]);
            if (matrices[i].Elements > 0 && !addresses.Add(w.Pointer))
            {
                Check.Throw(op, nameof(w), "is given twice", w);
            }
        }

        return matrices;
    }

    private static void CheckTerms(string op, Tensor w, in MergeMatrix matrix)
    {
        foreach (MergeTerm term in matrix.Terms)
        {
            RowMatrix a = RowMatrix.Of(op, term.A, term.A);
            RowMatrix b = RowMatrix.Of(op, term.B, term.B);
            Check.SameDevice(op, term.A, w);
            Check.SameDevice(op, term.B, w);
            if (a.Columns != matrix.Inputs)
            {
                Check.Throw(op, nameof(term.A), $"has to have {matrix.Inputs} columns, the inputs of w", term.A);
            }

            if (b.Rows != matrix.Outputs || b.Columns != a.Rows)
            {
                Check.Throw(op, nameof(term.B), $"has to be [{matrix.Outputs}, {a.Rows}]: w's outputs and A's rank", term.B);
            }
        }
    }
}
