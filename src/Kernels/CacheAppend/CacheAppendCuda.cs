using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class CacheAppendCuda
{
    private const int Threads = 256;

    private static readonly KernelFamily<RunParams> s_run = new("cacheappend", "cacheappend_run");

    public static void Run(Tensor entries, Tensor cache, Tensor position)
    {
        bool vectors = Vectors(entries) && Vectors(cache);
        int pieces = vectors ? entries.Shape[3] * entries.DType.Size() / 16 : entries.Shape[3];
        long items = (long)entries.Shape[0] * entries.Shape[1] * entries.Shape[2] * pieces;
        s_run.Launch(
            entries.Device,
            entries.DType,
            LaunchShape.Blocks(CudaLaunch.CeilDiv(items, Threads), Threads),
            new RunParams
            {
                Entries = entries.Pointer,
                Cache = cache.Pointer,
                Position = position.Pointer,
                EntriesBatch = entries.Strides[0],
                EntriesRow = entries.Strides[1],
                EntriesHead = entries.Strides[2],
                CacheBatch = cache.Strides[0],
                CacheRow = cache.Strides[1],
                CacheHead = cache.Strides[2],
                Items = items,
                Rows = entries.Shape[1],
                Heads = entries.Shape[2],
                Pieces = pieces,
                Capacity = cache.Shape[1],
                Vectors = vectors ? 1 : 0,
            },
            new KernelWork(2 * entries.ByteLength));
    }

    private static bool Vectors(Tensor tensor)
    {
        int size = tensor.DType.Size();
        bool vectors = CudaLaunch.AlignedRows(tensor, tensor.Shape[3]);
        for (int d = 0; d < 3; d++)
        {
            vectors &= tensor.Shape[d] <= 1 || tensor.Strides[d] * size % 16 == 0;
        }

        return vectors;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct RunParams
    {
        public nint Entries;
        public nint Cache;
        public nint Position;
        public long EntriesBatch;
        public long EntriesRow;
        public long EntriesHead;
        public long CacheBatch;
        public long CacheRow;
        public long CacheHead;
        public long Items;
        public int Rows;
        public int Heads;
        public int Pieces;
        public int Capacity;
        public int Vectors;
    }
}
