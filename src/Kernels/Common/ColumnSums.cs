using System.Numerics;
using Engine.Kernels.Cpu;

namespace Engine.Kernels;

/// <summary>
/// A sum over rows for every column, the same bits for every thread count: rows are cut into chunks that depend on the
/// sizes only, each chunk has its own partial sums, and the partials are added in chunk order.
/// </summary>
/// <param name="rows">Number of rows.</param>
/// <param name="width">Number of columns, all sums of one row together.</param>
internal readonly unsafe struct ColumnSums<T>(long rows, int width)
    where T : unmanaged, IFloatingPointIeee754<T>
{
    // Enough chunks for the cores of today's desktops; more would only add partials to write and read again.
    private const int MaxChunks = 32;

    public long Rows => rows;

    /// <summary>Rows in a chunk.</summary>
    public long ChunkRows => ChunkRowsOf(rows, width);

    /// <summary>Elements of the buffer of all partial sums, [chunks, width].</summary>
    public long PartialElements => (long)CpuParallel.ChunkCount(rows, ChunkRows) * width;

    /// <summary>The cleared partial sums of the chunk that is rows [<paramref name="begin"/>, …).</summary>
    public T* Partial(T* partials, long begin)
    {
        T* partial = partials + (begin / ChunkRows * width);
        new Span<T>(partial, width).Clear();
        return partial;
    }

    /// <summary>destination[c] += the sum of all partials of column <paramref name="first"/> + c.</summary>
    public void AddTo(T* partials, FloatRows destination, int first = 0, int count = -1)
    {
        int columns = count < 0 ? width - first : count;
        var state = new State
        {
            Partials = (nint)(partials + first),
            Destination = destination,
            Width = width,
            Chunks = CpuParallel.ChunkCount(rows, ChunkRows),
        };
        CpuParallel.ForRange(columns, RowLoop.Block, state, static (s, begin, end) =>
        {
            int length = (int)(end - begin);
            using ScratchBuffer<T> scratch = Scratch.Rent<T>(2 * RowLoop.Block);
            T* sum = scratch.Pointer;
            new Span<T>(sum, length).Clear();
            T* partial = (T*)s.Partials + begin;
            for (int chunk = 0; chunk < s.Chunks; chunk++, partial += s.Width)
            {
                ElementLoop.Map(default(ElementwiseCpu.AddOp), sum, partial, null, sum, null, length);
            }

            T* before = s.Destination.Read(begin, length, scratch.Pointer + RowLoop.Block);
            ElementLoop.Map(default(ElementwiseCpu.AddOp), before, sum, null, sum, null, length);
            s.Destination.Write(sum, begin, length);
        });
    }

    private static long ChunkRowsOf(long rows, int width) =>
        Math.Max(RowLoop.Grain(width), (rows + MaxChunks - 1) / MaxChunks);

    private struct State
    {
        public nint Partials;
        public FloatRows Destination;
        public int Width;
        public int Chunks;
    }
}
