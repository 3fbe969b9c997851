using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels.Cuda;

/// <summary>What the launchers share.</summary>
internal static class CudaLaunch
{
    /// <summary>The tensor's device; the caller has switched on its kind.</summary>
    public static CudaDevice Device(Tensor tensor) => (CudaDevice)tensor.Device;

    /// <summary>The address of an optional tensor, 0 for none.</summary>
    public static nint PointerOf(Tensor? tensor) => tensor?.Pointer ?? 0;

    /// <summary>Whether an address is a multiple of 16 bytes (0 is).</summary>
    public static bool Aligned(nint pointer) => (pointer & 15) == 0;

    /// <summary>Whether contiguous rows of this many elements of this dtype all begin at multiples of 16 bytes.</summary>
    public static bool AlignedRows(Tensor tensor, long columns) =>
        Aligned(tensor.Pointer) && columns * tensor.DType.Size() % 16 == 0;

    /// <summary>Threads of a block that walks a row of this many items: a power of two from 32 to <paramref name="most"/>.</summary>
    public static uint ThreadsFor(long items, uint most = 512)
    {
        uint threads = 32;
        while (threads < most && threads < items)
        {
            threads *= 2;
        }

        return threads;
    }

    /// <summary>The grid of a loop over elements (<c>common/elementwise.cuh</c>): a pack or an element a thread, up to a limit.</summary>
    public static LaunchShape Elements(long count, DType dtype, bool vectors)
    {
        const int Threads = 256;
        const int MostBlocks = 132 * 16;
        long items = vectors ? CeilDiv(count, 16 / dtype.Size()) : count;
        return LaunchShape.Blocks(Math.Min(CeilDiv(items, Threads), MostBlocks), Threads);
    }

    /// <summary>Elements between the rows of a matrix; 0 for an absent tensor.</summary>
    public static long RowStride(Tensor? tensor) => tensor is null ? 0 : Check.RowStride(tensor);

    /// <summary>
    /// The loop over rows of <c>common/elementwise.cuh</c>: tensors of one shape without gaps are one row, else they are
    /// matrices; whether all of them can be read 16 bytes at a time.
    /// </summary>
    public static (long Rows, long Columns, bool Vectors) Rows(params ReadOnlySpan<Tensor?> tensors)
    {
        bool dense = true;
        bool aligned = true;
        bool alignedRows = true;
        Tensor? any = null;
        foreach (Tensor? tensor in tensors)
        {
            if (tensor is not null)
            {
                any = tensor;
                dense &= tensor.IsContiguous;
                aligned &= Aligned(tensor.Pointer);
                alignedRows &= RowStride(tensor) * tensor.DType.Size() % 16 == 0 && Check.Columns(tensor) * tensor.DType.Size() % 16 == 0;
            }
        }

        return dense ? (1, any!.Elements, aligned) : (any!.Shape[0], any.Shape[1], aligned && alignedRows);
    }

    /// <summary>
    /// Cuts rows into chunks for sums over rows: at most 256 chunks of at least 64 rows, by the number of rows alone, so that
    /// a sum has the same bits on every GPU.
    /// </summary>
    public static (int Chunks, long ChunkRows) RowChunks(long rows)
    {
        long chunkRows = Math.Max(64, CeilDiv(rows, 256));
        return ((int)CeilDiv(rows, chunkRows), chunkRows);
    }

    /// <summary>⌈a ∕ b⌉.</summary>
    public static long CeilDiv(long a, long b) => (a + b - 1) / b;
}
