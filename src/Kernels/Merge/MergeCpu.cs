using System.Numerics;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>What a pass over the matrix does.</summary>
internal enum MergeMode
{
    Apply,
    ApplyExact,
    Undo,
}

/// <summary>
/// Merge on the CPU. A task is a block of rows; it visits tiles of columns from left to right and within a tile row by
/// row, the order in which a <see cref="MergeCorrection"/> counts elements.
/// </summary>
internal static unsafe class MergeCpu
{
    private const int RowBlock = 32;
    private const int ColumnBlock = 512;

    public static int Blocks(RowMatrix w) => CpuParallel.ChunkCount(w.Rows, RowBlock);

    /// <summary>The arguments have been checked; the correction is filled or read in the exact modes.</summary>
    public static void Run(
        RowMatrix w, ReadOnlySpan<MergeTerm> terms, bool transposed, MergeMode mode, MergeCorrection? correction)
    {
        if (w.DType == DType.F64)
        {
            Run<double>(w, terms, transposed, mode, correction);
        }
        else
        {
            Run<float>(w, terms, transposed, mode, correction);
        }
    }

    private static void Run<T>(
        RowMatrix w, ReadOnlySpan<MergeTerm> terms, bool transposed, MergeMode mode, MergeCorrection? correction)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int rank = 0;
        foreach (MergeTerm term in terms)
        {
            rank += term.A.Shape[0];
        }

        int padded = TileProduct.Padded<T>(w.Columns);
        using ScratchBuffer<T> leftBuffer = Scratch.Rent<T>((long)w.Rows * rank);
        using ScratchBuffer<T> rightBuffer = Scratch.Rent<T>((long)rank * padded);
        new Span<T>(rightBuffer.Pointer, rank * padded).Clear();

        // Δ = left·right in w's layout: left is scale·B [N, r] or Aᵀ [K, r], right is A [r, K] or (scale·B)ᵀ [r, N].
        int at = 0;
        foreach (MergeTerm term in terms)
        {
            RowMatrix a = RowMatrix.Of("Merge", term.A, term.A);
            RowMatrix b = RowMatrix.Of("Merge", term.B, term.B);
            T scale = T.CreateTruncating(term.Scale);
            if (transposed)
            {
                Pack(a, T.One, leftBuffer.Pointer + at, 1, rank);
                Pack(b, scale, rightBuffer.Pointer + ((long)at * padded), 1, padded);
            }
            else
            {
                Pack(b, scale, leftBuffer.Pointer + at, rank, 1);
                Pack(a, T.One, rightBuffer.Pointer + ((long)at * padded), padded, 1);
            }

            at += a.Rows;
        }

        var state = new State(w, rank, padded, (nint)leftBuffer.Pointer, (nint)rightBuffer.Pointer, mode, correction);
        CpuParallel.For(Blocks(w), state, static (s, block) => RunBlock<T>(in s, block));
    }

    // Element (i, j) of the matrix times the factor goes to i·row + j·column.
    private static void Pack<T>(RowMatrix matrix, T factor, T* destination, long row, long column)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        using ScratchBuffer<T> buffer = Scratch.Rent<T>(matrix.Columns);
        for (int i = 0; i < matrix.Rows; i++)
        {
            FloatConvert.Load(matrix.DType, matrix.Slice(i, 1).Pointer, matrix.Columns, buffer.Pointer);
            T* to = destination + (i * row);
            for (int j = 0; j < matrix.Columns; j++)
            {
                to[j * column] = buffer.Pointer[j] * factor;
            }
        }
    }

    private static void RunBlock<T>(in State state, int block)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        RowMatrix w = state.W;
        int begin = block * RowBlock;
        int rows = Math.Min(RowBlock, w.Rows - begin);
        int size = w.DType.Size();
        int blockBytes = checked(rows * w.Columns * size);
        byte[]? segment = state.Mode == MergeMode.Undo ? state.Correction!.Segments[block] : null;
        if (segment is not null && segment[0] == MergeCorrection.Copy)
        {
            Restore(w, begin, rows, segment.AsSpan(1));
            return;
        }

        using ScratchBuffer<T> buffer = Scratch.Rent<T>((RowBlock + 1) * ColumnBlock);
        using ScratchBuffer<byte> original = Scratch.Rent<byte>(state.Mode == MergeMode.ApplyExact ? blockBytes : 0);
        using ScratchBuffer<byte> back = Scratch.Rent<byte>(ColumnBlock * size);
        T* delta = buffer.Pointer;
        T* values = delta + (RowBlock * ColumnBlock);
        MergeSegmentWriter? writer = state.Mode == MergeMode.ApplyExact ? new MergeSegmentWriter() : null;
        var reader = new MergeSegmentReader(segment ?? [MergeCorrection.List], size);
        bool more = reader.Next(out long next, out ReadOnlySpan<byte> element);
        long visited = 0;
        long last = 0;
        byte* saved = original.Pointer;
        for (int column = 0; column < w.Columns; column += ColumnBlock)
        {
            int columns = Math.Min(ColumnBlock, w.Columns - column);
            TileProduct.Run(
                (T*)state.Left + ((long)begin * state.Rank), state.Rank, 1, (T*)state.Right + column, state.Padded, delta, ColumnBlock,
                rows, Math.Min(ColumnBlock, state.Padded - column), state.Rank, accumulate: false);
            for (int i = 0; i < rows; i++, visited += columns)
            {
                byte* row = (byte*)w.Slice(begin + i, 1).Pointer + ((long)column * size);
                T* d = delta + (i * ColumnBlock);
                FloatConvert.Load(w.DType, row, columns, values);
                if (state.Mode == MergeMode.Undo)
                {
                    AddMultiple(values, d, -T.One, columns);
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

                if (writer is not null)
                {
                    new ReadOnlySpan<byte>(row, columns * size).CopyTo(new Span<byte>(saved, columns * size));
                }

                AddMultiple(values, d, T.One, columns);
                FloatConvert.Store(values, w.DType, row, columns);
                if (writer is not null)
                {
                    FloatConvert.Load(w.DType, row, columns, values);
                    AddMultiple(values, d, -T.One, columns);
                    FloatConvert.Store(values, w.DType, back.Pointer, columns);
                    Record(writer, saved, back.Pointer, columns, size, visited, ref last);
                    saved += columns * size;
                }
            }
        }

        if (writer is not null)
        {
            state.Correction!.Counts[block] = writer.Count;
            state.Correction.Segments[block] =
                writer.Length <= blockBytes ? writer.ToArray() : [MergeCorrection.Copy, .. new ReadOnlySpan<byte>(original.Pointer, blockBytes)];
        }
    }

    // Records the elements of one run whose bits subtraction does not bring back; `last` is the element after the last one recorded.
    private static void Record(MergeSegmentWriter writer, byte* original, byte* back, int count, int size, long visited, ref long last)
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
    private static void Restore(RowMatrix w, int begin, int rows, ReadOnlySpan<byte> bytes)
    {
        int size = w.DType.Size();
        for (int column = 0; column < w.Columns; column += ColumnBlock)
        {
            int length = Math.Min(ColumnBlock, w.Columns - column) * size;
            for (int i = 0; i < rows; i++)
            {
                bytes[..length].CopyTo(new Span<byte>((byte*)w.Slice(begin + i, 1).Pointer + ((long)column * size), length));
                bytes = bytes[length..];
            }
        }
    }

    // values += sign·delta; the product with ±1 is exact, so this is one rounding.
    private static void AddMultiple<T>(T* values, T* delta, T sign, int count)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int i = 0;
        for (; i <= count - Vector<T>.Count; i += Vector<T>.Count)
        {
            Vector.Store(Vector.Load(values + i) + (Vector.Load(delta + i) * sign), values + i);
        }

        for (; i < count; i++)
        {
            values[i] += delta[i] * sign;
        }
    }

    private readonly record struct State(
        RowMatrix W, int Rank, int Padded, nint Left, nint Right, MergeMode Mode, MergeCorrection? Correction);
}
