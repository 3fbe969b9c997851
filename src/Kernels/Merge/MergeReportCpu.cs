using System.Numerics;
using System.Runtime.InteropServices;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>The errors of merges on the CPU: sums of each block of rows, added up in the blocks' order.</summary>
internal static unsafe class MergeReportCpu
{
    /// <summary>The arguments have been checked.</summary>
    public static MergeError[] Run(ReadOnlySpan<MergeMatrix> matrices)
    {
        var errors = new MergeError[matrices.Length];
        for (int i = 0; i < errors.Length; i++)
        {
            errors[i] = matrices[i].W.DType == DType.F64 ? Run<double>(matrices[i]) : Run<float>(matrices[i]);
        }

        return errors;
    }

    private static MergeError Run<T>(in MergeMatrix matrix)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        using ScratchBuffer<T> left = Scratch.Rent<T>(MergeDelta<T>.LeftLength(matrix));
        using ScratchBuffer<T> right = Scratch.Rent<T>(MergeDelta<T>.RightLength(matrix));
        var delta = new MergeDelta<T>(matrix, left.Pointer, right.Pointer);
        var sums = new Sums[MergeDelta.Blocks(matrix.W)];
        CpuParallel.For(sums.Length, (delta, sums), static (s, block) => s.sums[block] = RunBlock(s.delta, block));
        var total = default(Sums);
        foreach (Sums sum in sums)
        {
            total.Loss += sum.Loss;
            total.Delta += sum.Delta;
            total.Largest = Math.Max(total.Largest, sum.Largest);
            total.Vanished += sum.Vanished;
        }

        return new MergeError(Math.Sqrt(total.Loss), Math.Sqrt(total.Delta), total.Largest, total.Vanished, matrix.Elements);
    }

    private static Sums RunBlock<T>(MergeDelta<T> factors, int block)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        RowMatrix w = factors.RowsOf(block);
        int size = w.DType.Size();
        using ScratchBuffer<T> buffer = Scratch.Rent<T>((MergeDelta.RowBlock + 2) * MergeDelta.ColumnBlock);
        using ScratchBuffer<byte> bytes = Scratch.Rent<byte>(MergeDelta.ColumnBlock * size);
        T* delta = buffer.Pointer;
        T* before = delta + (MergeDelta.RowBlock * MergeDelta.ColumnBlock);
        T* after = before + MergeDelta.ColumnBlock;
        var sums = default(Sums);
        for (int column = 0; column < w.Columns; column += MergeDelta.ColumnBlock)
        {
            int columns = Math.Min(MergeDelta.ColumnBlock, w.Columns - column);
            factors.Compute(block, column, delta);
            for (int i = 0; i < w.Rows; i++)
            {
                byte* row = (byte*)w.Slice(i, 1).Pointer + ((long)column * size);
                T* d = delta + (i * MergeDelta.ColumnBlock);
                FloatConvert.Load(w.DType, row, columns, before);
                FloatConvert.Load(w.DType, row, columns, after);
                MergeDelta.AddMultiple(after, d, T.One, columns);
                FloatConvert.Store(after, w.DType, bytes.Pointer, columns);
                FloatConvert.Load(w.DType, bytes.Pointer, columns, after);
                for (int j = 0; j < columns; j++)
                {
                    bool same = new ReadOnlySpan<byte>(row + (j * size), size).SequenceEqual(new ReadOnlySpan<byte>(bytes.Pointer + (j * size), size));
                    sums.Add(double.CreateTruncating(before[j]), double.CreateTruncating(d[j]), double.CreateTruncating(after[j]), same);
                }
            }
        }

        return sums;
    }

    [StructLayout(LayoutKind.Auto)]
    private struct Sums
    {
        public double Loss;
        public double Delta;
        public double Largest;
        public long Vanished;

        public void Add(double before, double delta, double after, bool same)
        {
            // The exact error of a sum that was rounded to f64 (Knuth, The Art of Computer Programming 2, §4.2.2, theorem B), and
            // with it that of any sum: what was rounded further is in (after − sum), which is exact.
            double sum = before + delta;
            double part = sum - before;
            double lost = (before - (sum - part)) + (delta - part);
            double error = Math.Abs((after - sum) - lost);
            if (double.IsNaN(error))
            {
                error = double.PositiveInfinity;
            }

            Loss += error * error;
            Delta += delta * delta;
            Largest = Math.Max(Largest, error);
            Vanished += same && delta != 0 ? 1 : 0;
        }
    }
}
