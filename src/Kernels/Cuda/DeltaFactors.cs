using System.Runtime.InteropServices;
using Engine.Tensors;

namespace Engine.Kernels.Cuda;

/// <summary>
/// The factors of Δ = Σ scale·B·A, each number split into three bf16, packed for kernels-cu/common/delta.cuh: by slices of 16
/// ranks, of which each adapter has its own, extents padded with zeros to multiples of 128. First A's side, behind it B's.
/// </summary>
internal static class DeltaFactors
{
    /// <summary>Rows of a kernel's tile.</summary>
    public const int TileRows = 128;

    /// <summary>Bytes of a row of a kernel's tile.</summary>
    public const int TileRowBytes = 256;

    /// <summary>Threads of a kernel's block.</summary>
    public const uint Threads = 256;

    /// <summary>Dynamic shared memory of a block: W's tile, and as much for a slice of the factors or for a tile's records.</summary>
    public const uint SharedBytes = 2 * TileRows * TileRowBytes;

    /// <summary>Bytes of a row or a column in a slice.</summary>
    public const int ItemBytes = Slice * 3 * sizeof(ushort);

    private const int Slice = 16;
    private const int Part = 128;

    /// <summary>Columns of a kernel's tile.</summary>
    public static int TileColumns(DType dtype) => TileRowBytes / dtype.Size();

    /// <summary>Slices of an adapter.</summary>
    public static int Slices(int rank) => (int)CudaLaunch.CeilDiv(rank, Slice);

    /// <summary>Slices of a matrix's adapters.</summary>
    public static int Slices(in MergeMatrix matrix) => matrix.Terms.Sum(static t => Slices(t.A.Shape[0]));

    /// <summary>Bytes of the packed factors.</summary>
    /// <param name="slices">Of all adapters together.</param>
    /// <param name="outputs">Outputs of the matrix.</param>
    /// <param name="inputs">Inputs of the matrix.</param>
    public static long Bytes(int slices, int outputs, int inputs) => slices * (SliceBytes(inputs) + SliceBytes(outputs));

    /// <summary>What kernels take, for factors packed at an address.</summary>
    /// <param name="matrix">The matrix and its adapters.</param>
    /// <param name="factors">The address, of <see cref="Bytes"/>.</param>
    public static Operand OperandOf(in MergeMatrix matrix, nint factors)
    {
        int slices = Slices(matrix);
        (long a, long b) = (SliceBytes(matrix.Inputs), SliceBytes(matrix.Outputs));
        (nint atA, nint atB) = (factors, factors + (nint)(slices * a));
        const int Quad = 16;
        return matrix.Transposed
            ? new Operand { Left = atA, Right = atB, LeftStride = a / Quad, RightStride = b / Quad, Slices = slices }
            : new Operand { Left = atB, Right = atA, LeftStride = b / Quad, RightStride = a / Quad, Slices = slices };
    }

    /// <summary>The packing of one adapter: A [r, inputs], B [outputs, r]; any float dtypes, row gaps allowed.</summary>
    /// <param name="matrix">The matrix and its adapters.</param>
    /// <param name="term">Which adapter.</param>
    /// <param name="factors">Where the factors of all the matrix's adapters go.</param>
    public static PackParams PackOf(in MergeMatrix matrix, int term, nint factors)
    {
        RowMatrix a = RowMatrix.Of("Delta", matrix.Terms[term].A, matrix.Terms[term].A);
        RowMatrix b = RowMatrix.Of("Delta", matrix.Terms[term].B, matrix.Terms[term].B);
        int before = matrix.Terms.Take(term).Sum(static t => Slices(t.A.Shape[0]));
        (long bytesA, long bytesB) = (SliceBytes(matrix.Inputs), SliceBytes(matrix.Outputs));

        // Neighbours that a lane has: 16 bytes of W's columns, pairs of its rows.
        (int rows, int columns) = (2, 16 / matrix.W.DType.Size());
        return new PackParams
        {
            A = a.Address,
            B = b.Address,
            PackedA = factors + (nint)(before * bytesA),
            PackedB = factors + (nint)((Slices(matrix) * bytesA) + (before * bytesB)),
            AStride = a.Stride,
            BStride = b.Stride,
            AType = (int)a.DType,
            BType = (int)b.DType,
            Rank = a.Rows,
            Inputs = matrix.Inputs,
            Outputs = matrix.Outputs,
            Scale = matrix.Terms[term].Scale,
            ARun = matrix.Transposed ? rows : columns,
            BRun = matrix.Transposed ? columns : rows,
            ABlocks = checked((int)(Slices(a.Rows) * CudaLaunch.CeilDiv(matrix.Inputs, Part))),
        };
    }

    private static long SliceBytes(int extent) => CudaLaunch.CeilDiv(extent, Part) * Part * ItemBytes;

    /// <summary><c>DeltaFactors</c> of the kernels.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct Operand
    {
        public nint Left;
        public nint Right;
        public long LeftStride;
        public long RightStride;
        public int Slices;
    }

    /// <summary><c>DeltaPackParams</c> of the kernels.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct PackParams
    {
        public nint A;
        public nint B;
        public nint PackedA;
        public nint PackedB;
        public long AStride;
        public long BStride;
        public int AType;
        public int BType;
        public int Rank;
        public int Inputs;
        public int Outputs;
        public float Scale;
        public int ARun;
        public int BRun;
        public int ABlocks;
        public int FirstBlock;

        /// <summary>Blocks of the packing kernel.</summary>
        public readonly long Blocks => ABlocks + (DeltaFactors.Slices(Rank) * CudaLaunch.CeilDiv(Outputs, Part));
    }
}
