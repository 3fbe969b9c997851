using System.Runtime.InteropServices;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels.Cuda;

/// <summary>
/// The factors of Δ = Σ scale·B·A in f32, packed for kernels-cu/common/delta.cuh: rank by rank, rows padded with zeros to
/// multiples of 128 elements.
/// </summary>
internal readonly struct DeltaFactors : IDisposable
{
    /// <summary>Rows of a kernel's tile.</summary>
    public const int TileRows = 64;

    /// <summary>Columns of a kernel's tile.</summary>
    public const int TileColumns = 128;

    /// <summary>Threads of a kernel's block.</summary>
    public const uint Threads = 256;

    private const int Padding = 128;
    private const int PackTile = 32;

    private readonly Tensor _a;
    private readonly Tensor _b;

    private DeltaFactors(Tensor a, Tensor b, Operand operand)
    {
        (_a, _b, Parameters) = (a, b, operand);
    }

    /// <summary>What the kernels take.</summary>
    public Operand Parameters { get; }

    /// <summary>Queues the packing; dispose after the kernels that read the factors have been queued.</summary>
    /// <param name="pack">The op's own entry point of the packing kernel.</param>
    /// <param name="terms">A [r, inputs], B [outputs, r] and scale of each adapter; any float dtypes, row gaps allowed.</param>
    /// <param name="outputs">Outputs of the matrix.</param>
    /// <param name="inputs">Inputs of the matrix.</param>
    /// <param name="transposed">Whether the matrix is stored [inputs, outputs].</param>
    /// <param name="device">The device.</param>
    public static DeltaFactors Pack(
        KernelFamily<PackParams> pack, ReadOnlySpan<MergeTerm> terms, int outputs, int inputs, bool transposed, Device device)
    {
        int rank = 0;
        foreach (MergeTerm term in terms)
        {
            rank += term.A.Shape[0];
        }

        int inputsPadded = Padded(inputs);
        int outputsPadded = Padded(outputs);
        Tensor a = Tensor.Empty([rank, inputsPadded], DType.F32, device);
        Tensor b = Tensor.Empty([rank, outputsPadded], DType.F32, device);
        long at = 0;
        foreach (MergeTerm term in terms)
        {
            RowMatrix down = RowMatrix.Of("Delta", term.A, term.A);
            RowMatrix up = RowMatrix.Of("Delta", term.B, term.B);
            long across = CudaLaunch.CeilDiv(down.Rows, PackTile);
            long aTiles = across * (inputsPadded / PackTile);
            pack.Launch(
                device,
                LaunchShape.Blocks(aTiles + (across * (outputsPadded / PackTile)), Threads),
                new PackParams
                {
                    A = down.Address,
                    B = up.Address,
                    PackedA = a.Pointer + (nint)(at * inputsPadded * sizeof(float)),
                    PackedB = b.Pointer + (nint)(at * outputsPadded * sizeof(float)),
                    AStride = down.Stride,
                    BStride = up.Stride,
                    PackedAStride = inputsPadded,
                    PackedBStride = outputsPadded,
                    AType = (int)down.DType,
                    BType = (int)up.DType,
                    Rank = down.Rows,
                    Inputs = inputs,
                    Outputs = outputs,
                    Scale = term.Scale,
                    ATiles = (int)aTiles,
                },
                new KernelWork(term.A.ByteLength + term.B.ByteLength + (4L * down.Rows * (inputsPadded + outputsPadded))));
            at += down.Rows;
        }

        var byInputs = new Side(a.Pointer, inputsPadded);
        var byOutputs = new Side(b.Pointer, outputsPadded);
        (Side left, Side right) = transposed ? (byInputs, byOutputs) : (byOutputs, byInputs);
        return new DeltaFactors(a, b, new Operand
        {
            Left = left.Pointer,
            Right = right.Pointer,
            LeftStride = left.Stride,
            RightStride = right.Stride,
            Rank = rank,
        });
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _a.Dispose();
        _b.Dispose();
    }

    private static int Padded(int extent) => checked((int)(CudaLaunch.CeilDiv(extent, Padding) * Padding));

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
    }

    private readonly record struct Side(nint Pointer, long Stride);
}
