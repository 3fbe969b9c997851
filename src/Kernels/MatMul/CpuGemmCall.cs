using System.Numerics;
using System.Runtime.CompilerServices;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A matrix in memory: row-major, a row stride and a batch stride in elements, possibly to be read transposed.</summary>
internal unsafe struct GemmMatrix
{
    public byte* Data;
    public DType Type;
    public int Size;
    public bool Transposed;
    public long Stride;
    public long BatchStride;

    public GemmMatrix(void* data, DType type, bool transposed, long stride, long batchStride)
    {
        Data = (byte*)data;
        Type = type;
        Size = type.Size();
        Transposed = transposed;
        Stride = stride;
        BatchStride = batchStride;
    }

    /// <summary>Address of the stored element (row, column) of a batch item; for a transposed matrix, rows are op's columns.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly byte* At(long item, long row, long column) =>
        Data + (((item * BatchStride) + (row * Stride) + column) * Size);
}

/// <summary>One call: the problem, and how it is cut. The cut is a function of the problem alone, never of the thread count.</summary>
internal unsafe struct GemmCall<T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    public int Batch;
    public int M;
    public int N;
    public int K;

    /// <summary>Length of the sums in the last batch item; differs from <see cref="K"/> where k itself was cut.</summary>
    public int LastK;
    public T Alpha;
    public T Beta;
    public GemmMatrix A;
    public GemmMatrix B;
    public GemmMatrix C;

    /// <summary>Rows and columns of a tile of C (one task), steps of k, columns of a packed panel of B.</summary>
    public int TileM;
    public int TileN;
    public int StepK;
    public int Panel;

    /// <summary>Whether A's full panels of rows, or B, are read where they lie.</summary>
    public bool DirectA;
    public bool DirectB;

    /// <summary>The current pass: batch items, columns, and B packed for them.</summary>
    public int FirstItem;
    public int Items;
    public int FirstColumn;
    public int Columns;
    public T* Packed;
    public long PackedStride;
    public int PackDepth;
    public int PackPanels;

    public readonly int DepthOf(int item) => item == Batch - 1 ? LastK : K;

    public readonly int TilesM => CeilDiv(M, TileM);

    public readonly int TilesN => CeilDiv(Columns, TileN);

    public readonly double Flops => 2.0 * Batch * M * N * K;

    public static int CeilDiv(int a, int b) => (int)(((long)a + b - 1) / b);

    public static int RoundUp(int a, int b) => checked(CeilDiv(a, b) * b);

    /// <summary>An even cut of <paramref name="count"/> into pieces of at most <paramref name="largest"/>, multiples of <paramref name="unit"/>.</summary>
    public static int EvenPiece(int count, int largest, int unit)
    {
        int pieces = Math.Max(1, CeilDiv(count, largest));
        return Math.Max(unit, RoundUp(CeilDiv(count, pieces), unit));
    }
}
