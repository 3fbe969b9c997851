using System.Runtime.InteropServices;
using Engine.Tensors;

namespace Engine.Kernels.Cuda;

/// <summary>
/// The factors of Δ = Σ scale·B·A in f32, packed for kernels-cu/common/delta.cuh: rank by rank, rows padded with zeros to
/// multiples of 256 elements. First A's side [rank, inputs], behind it B's [rank, outputs].
/// </summary>
internal static class DeltaFactors
{
    /// <summary>Rows of a kernel's tile.</summary>
    public const int TileRows = 64;

    /// <summary>Threads of a kernel's block.</summary>
    public const uint Threads = 256;

    /// <summary>Dynamic shared memory of a block: two slices of 16 ranks of the factors of 64 rows and 256 columns, and W's tile.</summary>
    public const uint SharedBytes = (2 * 16 * (64 + 256) * sizeof(float)) + (TileRows * TileRowBytes);

    private const int TileRowBytes = 512;
    private const int Padding = 256;
    private const int PackTile = 32;

    /// <summary>Columns of a kernel's tile.</summary>
    public static int TileColumns(DType dtype) => TileRowBytes / dtype.Size();

    /// <summary>An extent as it is packed.</summary>
    public static long Padded(int extent) => CudaLaunch.CeilDiv(extent, Padding) * Padding;

    /// <summary>What kernels take, for factors packed at an address.</summary>
    /// <param name="factors">The address; has room for rank · (padded inputs + padded outputs) f32.</param>
    /// <param name="rank">The ranks of all adapters together.</param>
    /// <param name="outputs">Outputs of the matrix.</param>
    /// <param name="inputs">Inputs of the matrix.</param>
    /// <param name="transposed">Whether the matrix is stored [inputs, outputs].</param>
    public static Operand OperandOf(nint factors, int rank, int outputs, int inputs, bool transposed)
    {
        (nint a, nint b) = (factors, factors + (nint)(rank * Padded(inputs) * sizeof(float)));
        return transposed
            ? new Operand { Left = a, Right = b, LeftStride = Padded(inputs), RightStride = Padded(outputs), Rank = rank }
            : new Operand { Left = b, Right = a, LeftStride = Padded(outputs), RightStride = Padded(inputs), Rank = rank };
    }

    /// <summary>The packing of one adapter.</summary>
    /// <param name="term">A [r, inputs], B [outputs, r] and scale; any float dtypes, row gaps allowed.</param>
    /// <param name="outputs">Outputs of the matrix.</param>
    /// <param name="inputs">Inputs of the matrix.</param>
    /// <param name="factors">Where the factors of all the matrix's adapters go.</param>
    /// <param name="rank">The ranks of all of them.</param>
    /// <param name="before">The ranks of those before this one.</param>
    public static PackParams PackOf(in MergeTerm term, int outputs, int inputs, nint factors, int rank, int before)
    {
        RowMatrix a = RowMatrix.Of("Delta", term.A, term.A);
        RowMatrix b = RowMatrix.Of("Delta", term.B, term.B);
        (long inputsPadded, long outputsPadded) = (Padded(inputs), Padded(outputs));
        return new PackParams
        {
            A = a.Address,
            B = b.Address,
            PackedA = factors + (nint)(before * inputsPadded * sizeof(float)),
            PackedB = factors + (nint)(((rank * inputsPadded) + (before * outputsPadded)) * sizeof(float)),
            AStride = a.Stride,
            BStride = b.Stride,
            PackedAStride = inputsPadded,
            PackedBStride = outputsPadded,
            AType = (int)a.DType,
            BType = (int)b.DType,
            Rank = a.Rows,
            Inputs = inputs,
            Outputs = outputs,
            Scale = term.Scale,
            ATiles = checked((int)(CudaLaunch.CeilDiv(a.Rows, PackTile) * (inputsPadded / PackTile))),
        };
    }

    /// <summary><c>DeltaFactors</c> of the kernels.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct Operand
    {
        public nint Left;
        public nint Right;
        public long LeftStride;
        public long RightStride;
        public int Rank;
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
        public long PackedAStride;
        public long PackedBStride;
        public int AType;
        public int BType;
        public int Rank;
        public int Inputs;
        public int Outputs;
        public float Scale;
        public int ATiles;
        public int FirstBlock;

        /// <summary>Blocks of the packing kernel.</summary>
        public readonly long Blocks => ATiles + (CudaLaunch.CeilDiv(Rank, PackTile) * (PackedBStride / PackTile));
    }
}
