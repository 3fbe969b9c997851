using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Merges adapters into a frozen matrix, W ← W + Σ scale·B·A (Hu et al., LoRA, 2021, §4.1), and takes them out again
/// with the original bits.
/// </summary>
/// <remarks>
/// Δ = Σ_a (scale_a·B_a)·A_a in fp32 (fp64 for an f64 matrix): scale·B is rounded first, then each element is one chain
/// of fused multiply-adds from 0 over adapters and ranks in order. That chain does not depend on tiling, threads or
/// vector width, so Δ has the same bits whenever it is computed from the same A, B and scale. W′ = round(W + Δ), the sum
/// in the compute dtype, then rounded to W's dtype. Subtracting, round(W′ − Δ), does not always give W back (bf16: 5 to
/// 10% of the elements differ, more for larger Δ), hence the <see cref="MergeCorrection"/>.
/// Δ is never held as a whole; a matrix may have a gap between its rows. On CUDA an exact merge waits for the device: the
/// correction's length has to be known.
/// </remarks>
public static class Merge
{
    /// <summary>W ← W + scale·B·A.</summary>
    /// <param name="w">[N, K], or [K, N] when <paramref name="transposed"/>; float, changed in place.</param>
    /// <param name="a">[r, K]</param>
    /// <param name="b">[N, r]</param>
    /// <param name="scale">α/r or α/√r.</param>
    /// <param name="transposed">Whether the matrix is stored [inputs, outputs], as GPT-2's Conv1D.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void Apply(Tensor w, Tensor a, Tensor b, float scale, bool transposed) =>
        Apply(w, [new MergeTerm(a, b, scale)], transposed);

    /// <summary>W ← W + Σ scale·B·A over several adapters, rounded once.</summary>
    /// <inheritdoc cref="Apply(Tensor, Tensor, Tensor, float, bool)" path="/exception"/>
    public static void Apply(Tensor w, ReadOnlySpan<MergeTerm> terms, bool transposed)
    {
        RowMatrix matrix = CheckArguments("Merge.Apply", w, terms, transposed);
        switch (w.Device.Kind)
        {
            case DeviceKind.Cpu:
                MergeCpu.Run(matrix, terms, transposed, MergeMode.Apply, null);
                break;
            case DeviceKind.Cuda:
                MergeCuda.Apply(w.Device, matrix, terms, transposed);
                break;
            default:
                throw DeviceDispatch.Unsupported("Merge.Apply", w.Device);
        }
    }

    /// <summary><see cref="Apply(Tensor, Tensor, Tensor, float, bool)"/>, and what <see cref="Undo(Tensor, Tensor, Tensor, float, bool, MergeCorrection)"/> needs.</summary>
    public static MergeCorrection ApplyExact(Tensor w, Tensor a, Tensor b, float scale, bool transposed) =>
        ApplyExact(w, [new MergeTerm(a, b, scale)], transposed);

    /// <summary><see cref="Apply(Tensor, ReadOnlySpan{MergeTerm}, bool)"/>, and what <see cref="Undo(Tensor, ReadOnlySpan{MergeTerm}, bool, MergeCorrection)"/> needs.</summary>
    public static MergeCorrection ApplyExact(Tensor w, ReadOnlySpan<MergeTerm> terms, bool transposed)
    {
        RowMatrix matrix = CheckArguments("Merge.ApplyExact", w, terms, transposed);
        switch (w.Device.Kind)
        {
            case DeviceKind.Cpu:
                var correction = new MergeCorrection(w.Shape, w.DType, transposed, terms.Length, MergeCpu.Blocks(matrix));
                MergeCpu.Run(matrix, terms, transposed, MergeMode.ApplyExact, correction);
                return correction;
            case DeviceKind.Cuda:
                MergeRecords records = MergeCuda.ApplyExact(w.Device, matrix, terms, transposed);
                return new MergeCorrection(w.Shape, w.DType, transposed, terms.Length, records);
            default:
                throw DeviceDispatch.Unsupported("Merge.ApplyExact", w.Device);
        }
    }

    /// <summary>Undoes <see cref="ApplyExact(Tensor, Tensor, Tensor, float, bool)"/>.</summary>
    /// <inheritdoc cref="Undo(Tensor, ReadOnlySpan{MergeTerm}, bool, MergeCorrection)"/>
    public static void Undo(Tensor w, Tensor a, Tensor b, float scale, bool transposed, MergeCorrection correction) =>
        Undo(w, [new MergeTerm(a, b, scale)], transposed, correction);

    /// <summary>
    /// Gives a matrix the exact bits it had before <see cref="ApplyExact(Tensor, ReadOnlySpan{MergeTerm}, bool)"/>, provided
    /// that it has not changed since and that the terms are the same, bit by bit and in order.
    /// </summary>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit, or the correction belongs to another merge.</exception>
    public static void Undo(Tensor w, ReadOnlySpan<MergeTerm> terms, bool transposed, MergeCorrection correction)
    {
        const string Op = "Merge.Undo";
        RowMatrix matrix = CheckArguments(Op, w, terms, transposed);
        ArgumentNullException.ThrowIfNull(correction);
        if (correction.Shape != w.Shape || correction.DType != w.DType || correction.Transposed != transposed || correction.Terms != terms.Length)
        {
            throw new ArgumentException(
                $"{Op}: the correction belongs to a merge of {correction.Terms} adapters into {correction.DType.Name()}{correction.Shape}, not of {terms.Length} into {w}",
                nameof(correction));
        }

        if (correction.Records?.Device != (w.Device.Kind == DeviceKind.Cpu ? null : w.Device))
        {
            throw new ArgumentException(
                $"{Op}: the correction is on {correction.Records?.Device.Name ?? Device.Cpu.Name}, w on {w.Device.Name}", nameof(correction));
        }

        switch (w.Device.Kind)
        {
            case DeviceKind.Cpu:
                MergeCpu.Run(matrix, terms, transposed, MergeMode.Undo, correction);
                break;
            case DeviceKind.Cuda:
                MergeCuda.Undo(w.Device, matrix, terms, transposed, correction.Records!);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, w.Device);
        }
    }

    private static RowMatrix CheckArguments(string op, Tensor w, ReadOnlySpan<MergeTerm> terms, bool transposed)
    {
        RowMatrix matrix = RowMatrix.Of(op, w, w);
        Check.Rank(op, w, 2);
        (int outputs, int inputs) = transposed ? (matrix.Columns, matrix.Rows) : (matrix.Rows, matrix.Columns);
        foreach (MergeTerm term in terms)
        {
            RowMatrix a = RowMatrix.Of(op, term.A, term.A);
            RowMatrix b = RowMatrix.Of(op, term.B, term.B);
            Check.SameDevice(op, term.A, w);
            Check.SameDevice(op, term.B, w);
            if (a.Columns != inputs)
            {
                Check.Throw(op, nameof(term.A), $"has to have {inputs} columns, the inputs of w", term.A);
            }

            if (b.Rows != outputs || b.Columns != a.Rows)
            {
                Check.Throw(op, nameof(term.B), $"has to be [{outputs}, {a.Rows}]: w's outputs and A's rank", term.B);
            }
        }

        return matrix;
    }
}
