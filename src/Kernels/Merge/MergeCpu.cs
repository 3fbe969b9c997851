using System.Numerics;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Merge on the CPU, matrix after matrix. A task is a block of rows; it visits tiles of columns from left to right and within a
/// tile row by row, the order in which <see cref="MergeSegments"/> count elements.
/// </summary>
internal static unsafe class MergeCpu
{
    private enum Mode
    {
        Apply,
        ApplyExact,
        Undo,
    }

    /// <summary>The arguments have been checked.</summary>
    public static void Apply(ReadOnlySpan<MergeMatrix> matrices)
    {
        foreach (MergeMatrix matrix in matrices)
        {
            Run(matrix, Mode.Apply, null);
        }
    }

    /// <summary>Merges and records. When memory runs out, what has been merged is undone.</summary>
    public static MergeSegments[] ApplyExact(ReadOnlySpan<MergeMatrix> matrices)
    {
        var segments = new MergeSegments[matrices.Length];
        for (int i = 0; i < segments.Length; i++)
        {
            segments[i] = new MergeSegments(MergeDelta.Blocks(matrices[i].W));
        }

        try
        {
            for (int i = 0; i < segments.Length; i++)
            {
                Run(matrices[i], Mode.ApplyExact, segments[i]);
            }
        }
        catch
        {
            Undo(matrices, segments);
            throw;
        }

        return segments;
    }

    /// <summary>The segments are those of <see cref="ApplyExact"/> of matrices of the same extents.</summary>
    public static void Undo(ReadOnlySpan<MergeMatrix> matrices, MergeSegments[] segments)
    {
        for (int i = 0; i < segments.Length; i++)
        {
            Run(matrices[i], Mode.Undo, segments[i]);
        }
    }

    private static void Run(in MergeMatrix matrix, Mode mode, MergeSegments? segments)
    {
        if (matrix.W.DType == DType.F64)
        {
            Run<double>(matrix, mode, segments);
        }
        else
        {
            Run<float>(matrix, mode, segments);
        }
    }

    private static void Run<T>(in MergeMatrix matrix, Mode mode, MergeSegments? segments)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        using ScratchBuffer<T> left = Scratch.Rent<T>(MergeDelta<T>.LeftLength(matrix));
        using ScratchBuffer<T> right = Scratch.Rent<T>(MergeDelta<T>.RightLength(matrix));
        var delta = new MergeDelta<T>(matrix, left.Pointer, right.Pointer);
        CpuParallel.For(MergeDelta.Blocks(matrix.W), (delta, mode, segments), static (s, block) => RunBlock(s.delta, s.mode, s.segments, block));
    }

    private static void RunBlock<T>(in MergeDelta<T> factors, Mode mode, MergeSegments? segments, int block)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        RowMatrix w = factors.RowsOf(block);
        int size = w.DType.Size();
        byte[]? segment = mode == Mode.Undo ? segments!.Blocks[block] : null;
        if (mode == Mode.Undo && (segment is null || segment[0] == MergeSegments.Copy))
        {
            if (segment is not null)
            {
                Restore(w, segment.AsSpan(1));
            }

            return;
        }

        bool exact = mode == Mode.ApplyExact;
        int blockBytes = checked(w.Rows * w.Columns * size);
        using ScratchBuffer<T> buffer = Scratch.Rent<T>((MergeDelta.RowBlock + 1) * MergeDelta.ColumnBlock);
        using ScratchBuffer<byte> original = Scratch.Rent<byte>(exact ? blockBytes : 0);
        using ScratchBuffer<byte> list = Scratch.Rent<byte>(exact ? blockBytes : 1);
        using ScratchBuffer<byte> back = Scratch.Rent<byte>(MergeDelta.ColumnBlock * size);
        T* delta = buffer.Pointer;
        T* values = delta + (MergeDelta.RowBlock * MergeDelta.ColumnBlock);
        var writer = new MergeSegmentWriter(list.Pointer, exact ? blockBytes : 1);
        var reader = new MergeSegmentReader(segment ?? [MergeSegments.List], size);
        bool more = reader.Next(out long next, out ReadOnlySpan<byte> element);
        long visited = 0;
        long last = 0;
        byte* saved = original.Pointer;
        for (int column = 0; column < w.Columns; column += MergeDelta.ColumnBlock)
        {
            int columns = Math.Min(MergeDelta.ColumnBlock, w.Columns - column);
            factors.Compute(block, column, delta);
            for (int i = 0; i < w.Rows; i++, visited += columns)
            {
                byte* row = (byte*)w.Slice(i, 1).Pointer + ((long)column * size);
                T* d = delta + (i * MergeDelta.ColumnBlock);
                FloatConvert.Load(w.DType, row, columns, values);
                if (mode == Mode.Undo)
                {
                    MergeDelta.AddMultiple(values, d, -T.One, columns);
                    FloatConvert.Store(values, w.DType, row, columns);
                    while (more && next < visited + columns)
                    {
                        element.CopyTo(new Span<byte>(row + ((next - visited) * size), size));
                        long previous = next;
                        more = reader.Next(out next, out element);
                        next += previous + 1;
                    }

                    continue;
                }

                if (exact)
                {
                    new ReadOnlySpan<byte>(row, columns * size).CopyTo(new Span<byte>(saved, columns * size));
                }

                MergeDelta.AddMultiple(values, d, T.One, columns);
                FloatConvert.Store(values, w.DType, row, columns);
                if (exact)
                {
                    FloatConvert.Load(w.DType, row, columns, values);
                    MergeDelta.AddMultiple(values, d, -T.One, columns);
                    FloatConvert.Store(values, w.DType, back.Pointer, columns);
                    Record(ref writer, saved, back.Pointer, columns, size, visited, ref last);
                    saved += columns * size;
                }
            }
        }

        if (exact)
        {
            Keep(segments!, block, w, writer, new ReadOnlySpan<byte>(original.Pointer, blockBytes));
        }
    }

    // The one step that takes memory after the block was changed: without it the block becomes what it was.
    private static void Keep(MergeSegments segments, int block, RowMatrix w, in MergeSegmentWriter writer, ReadOnlySpan<byte> original)
    {
        try
        {
            segments.Blocks[block] = writer.Fits ? writer.ToArray() : [MergeSegments.Copy, .. original];
            segments.Counts[block] = writer.Count;
        }
        catch
        {
            Restore(w, original);
            throw;
        }
    }

    // Records the elements of one run whose bits subtraction does not bring back; `last` is the element after the last one recorded.
    private static void Record(
        ref MergeSegmentWriter writer, byte* original, byte* back, int count, int size, long visited, ref long last)
    {
        int i = 0;
        while (true)
        {
            var left = new ReadOnlySpan<byte>(original + (i * size), (count - i) * size);
            int same = left.CommonPrefixLength(new ReadOnlySpan<byte>(back + (i * size), left.Length));
            if (same == left.Length)
            {
                return;
            }

            i += same / size;
            writer.Add(visited + i - last, new ReadOnlySpan<byte>(original + (i * size), size));
            i++;
            last = visited + i;
        }
    }

    // A copied segment holds the elements in the order of the visit.
    private static void Restore(RowMatrix w, ReadOnlySpan<byte> bytes)
    {
        int size = w.DType.Size();
        for (int column = 0; column < w.Columns; column += MergeDelta.ColumnBlock)
        {
            int length = Math.Min(MergeDelta.ColumnBlock, w.Columns - column) * size;
            for (int i = 0; i < w.Rows; i++)
            {
                bytes[..length].CopyTo(new Span<byte>((byte*)w.Slice(i, 1).Pointer + ((long)column * size), length));
                bytes = bytes[length..];
            }
        }
    }
}
