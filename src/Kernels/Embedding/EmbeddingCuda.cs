using System.Numerics;
using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class EmbeddingCuda
{
    // As in the kernels.
    private const int CopyThreads = 256;
    private const int SortThreads = 1024;
    private const int Piece = 64;

    private static readonly KernelFamily<ForwardParams> s_forward = new("embedding", "embedding_fwd");
    private static readonly KernelFamily<SortParams> s_sort = new("embedding", "embedding_sort");
    private static readonly KernelFamily<BackwardParams> s_backward = new("embedding", "embedding_bwd");

    public static void Forward(Tensor ids, Tensor table, Tensor y)
    {
        // Bytes are copied: by the largest power of two that divides addresses and rows.
        long rowBytes = (long)table.Shape[1] * table.DType.Size();
        long common = table.Pointer | y.Pointer | rowBytes | 16;
        int unit = (int)(common & -common);
        int units = checked((int)(rowBytes / unit));

        // About four accesses for each thread of a row.
        int lanes = (int)Math.Clamp(BitOperations.RoundUpToPowerOf2((uint)CudaLaunch.CeilDiv(units, 4)), 8, CopyThreads);
        s_forward.Launch(
            table.Device,
            LaunchShape.Blocks(CudaLaunch.CeilDiv(ids.Elements, CopyThreads / lanes), CopyThreads),
            new ForwardParams
            {
                Ids = ids.Pointer,
                Table = table.Pointer,
                Y = y.Pointer,
                Count = ids.Elements,
                Rows = table.Shape[0],
                Units = units,
                Unit = unit,
                Lanes = lanes,
            },
            new KernelWork(ids.ByteLength + (2 * y.ByteLength)));
    }

    public static void Backward(Tensor ids, Tensor dy, Tensor dTable)
    {
        const string Op = "Embedding.Backward";
        KernelTypes.Require(Op, dTable);
        KernelTypes.Require(Op, dy);
        if (dy.Elements == 0)
        {
            return;
        }

        int count = checked((int)ids.Elements);
        int rows = dTable.Shape[0];
        int columns = dTable.Shape[1];
        Device device = dTable.Device;
        using Tensor even = Tensor.Empty([count], DType.I64, device);
        using Tensor odd = Tensor.Empty([count], DType.I64, device);
        using Tensor start = Tensor.Empty([count], DType.I32, device);
        using Tensor arrived = Tensor.Empty([count], DType.I32, device);
        int passes = Math.Max(1, (39 - BitOperations.LeadingZeroCount((uint)rows)) / 8);
        s_sort.Launch(
            device,
            LaunchShape.Blocks(1, SortThreads),
            new SortParams
            {
                Ids = ids.Pointer,
                Even = even.Pointer,
                Odd = odd.Pointer,
                Start = start.Pointer,
                Arrived = arrived.Pointer,
                Count = count,
                Rows = rows,
                Passes = passes,
            },
            new KernelWork((ids.ByteLength * (1 + passes)) + (even.ByteLength * passes) + start.ByteLength + arrived.ByteLength));

        int pack = 16 / dTable.DType.Size();
        bool vectors = columns % pack == 0 && CudaLaunch.Aligned(dTable.Pointer) && CudaLaunch.Aligned(dy.Pointer);
        using Tensor partials = Tensor.Empty([2 * (int)CudaLaunch.CeilDiv(count, Piece), columns], DType.F32, device);
        s_backward.Launch(
            device,
            dTable.DType,
            LaunchShape.Blocks(count, CudaLaunch.ThreadsFor(vectors ? columns / pack : columns, 256)),
            new BackwardParams
            {
                Sorted = (passes % 2 == 1 ? even : odd).Pointer,
                Start = start.Pointer,
                Arrived = arrived.Pointer,
                Dy = dy.Pointer,
                Table = dTable.Pointer,
                Partials = partials.Pointer,
                Count = count,
                Columns = columns,
                DyType = (int)dy.DType,
                Vectors = vectors ? 1 : 0,
            },
            new KernelWork(dy.ByteLength + (2 * Math.Min(count, rows) * (long)columns * dTable.DType.Size()), dy.Elements));
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ForwardParams
    {
        public nint Ids;
        public nint Table;
        public nint Y;
        public long Count;
        public int Rows;
        public int Units;
        public int Unit;
        public int Lanes;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SortParams
    {
        public nint Ids;
        public nint Even;
        public nint Odd;
        public nint Start;
        public nint Arrived;
        public int Count;
        public int Rows;
        public int Passes;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct BackwardParams
    {
        public nint Sorted;
        public nint Start;
        public nint Arrived;
        public nint Dy;
        public nint Table;
        public nint Partials;
        public int Count;
        public int Columns;
        public int DyType;
        public int Vectors;
    }
}
