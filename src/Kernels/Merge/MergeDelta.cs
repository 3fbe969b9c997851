using System.Numerics;
using Engine.Kernels.Cpu;

namespace Engine.Kernels;

/// <summary>How Δ is cut on the CPU.</summary>
internal static unsafe class MergeDelta
{
    public const int RowBlock = 32;
    public const int ColumnBlock = 512;

    public static int Blocks(RowMatrix w) => CpuParallel.ChunkCount(w.Rows, RowBlock);

    /// <summary>values += sign·delta; the product with ±1 is exact, so this is one rounding.</summary>
    public static void AddMultiple<T>(T* values, T* delta, T sign, int count)
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
}

/// <summary>
/// Δ of a matrix on the CPU, block by block: left·right in w's layout, where left is scale·B [N, r] or Aᵀ [K, r] and right is
/// A [r, K] or (scale·B)ᵀ [r, N], its rows padded for whole vectors.
/// </summary>
internal readonly unsafe struct MergeDelta<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly RowMatrix _w;
    private readonly int _rank;
    private readonly int _padded;
    private readonly T* _left;
    private readonly T* _right;

    /// <summary>Packs the factors.</summary>
    /// <param name="matrix">The matrix and its adapters.</param>
    /// <param name="left">Memory for <see cref="LeftLength"/> elements, as long as Δ is used.</param>
    /// <param name="right">Memory for <see cref="RightLength"/> elements.</param>
    public MergeDelta(in MergeMatrix matrix, T* left, T* right)
    {
        _w = matrix.W;
        _left = left;
        _right = right;
        _rank = matrix.Rank;
        _padded = TileProduct.Padded<T>(_w.Columns);
        int at = 0;
        foreach (MergeTerm term in matrix.Terms)
        {
            RowMatrix a = RowMatrix.Of("Merge", term.A, term.A);
            RowMatrix b = RowMatrix.Of("Merge", term.B, term.B);
            T scale = T.CreateTruncating(term.Scale);
            T* rows = right + ((long)at * _padded);
            if (matrix.Transposed)
            {
                Pack(a, T.One, left + at, 1, _rank);
                Pack(b, scale, rows, 1, _padded);
            }
            else
            {
                Pack(b, scale, left + at, _rank, 1);
                Pack(a, T.One, rows, _padded, 1);
            }

            for (int i = 0; i < a.Rows; i++)
            {
                new Span<T>(rows + ((long)i * _padded) + _w.Columns, _padded - _w.Columns).Clear();
            }

            at += a.Rows;
        }
    }

    public static long LeftLength(in MergeMatrix matrix) => (long)matrix.W.Rows * matrix.Rank;

    public static long RightLength(in MergeMatrix matrix) => (long)matrix.Rank * TileProduct.Padded<T>(matrix.W.Columns);

    /// <summary>The rows of a block.</summary>
    public RowMatrix RowsOf(int block)
    {
        int begin = block * MergeDelta.RowBlock;
        return _w.Slice(begin, Math.Min(MergeDelta.RowBlock, _w.Rows - begin));
    }

    /// <summary>Writes Δ of a block's columns from <paramref name="column"/> on, in rows of <see cref="MergeDelta.ColumnBlock"/>.</summary>
    public void Compute(int block, int column, T* delta) => TileProduct.Run(
        _left + ((long)block * MergeDelta.RowBlock * _rank), _rank, 1, _right + column, _padded, delta,
        MergeDelta.ColumnBlock, RowsOf(block).Rows, Math.Min(MergeDelta.ColumnBlock, _padded - column), _rank, accumulate: false);

    // Element (i, j) of the matrix times the factor goes to i·row + j·column.
    private static void Pack(RowMatrix matrix, T factor, T* destination, long row, long column)
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
}
