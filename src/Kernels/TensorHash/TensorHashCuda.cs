using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class TensorHashCuda
{
    private const int ChunksPerBlock = 8;

    private static readonly KernelFamily<Params> s_chunks = new("tensorhash", "tensorhash_chunks");

    /// <summary>The hashes of the chunks of all tensors, in one launch; waits for the device. A single tensor needs no table.</summary>
    public static void Chunks(Device device, ReadOnlySpan<TensorHash.Bytes> tensors, Span<UInt128> hashes)
    {
        if (hashes.IsEmpty)
        {
            return;
        }

        var entries = new Entry[tensors.Length];
        int blocks = 0;
        long bytes = 0;
        for (int i = 0; i < entries.Length; i++)
        {
            entries[i] = EntryOf(tensors[i], blocks);
            blocks = checked((int)(blocks + CudaLaunch.CeilDiv(tensors[i].Chunks, ChunksPerBlock)));
            bytes += tensors[i].Length;
        }

        // In memory a UInt128 is its lower half and then its upper one.
        using var result = new CudaDeviceVariable<UInt128>((CudaDevice)device, hashes.Length);
        using CudaDeviceVariable<Entry>? table = entries.Length == 1 ? null : new((CudaDevice)device, entries.Length);
        table?.CopyToDevice(entries);
        s_chunks.Launch(
            device,
            LaunchShape.Blocks(blocks, 32),
            new Params
            {
                Entries = table?.DevicePointer ?? 0,
                Out = result.DevicePointer,
                Only = entries[0],
                Count = entries.Length,
            },
            new KernelWork(bytes));
        result.CopyToHost(hashes);
    }

    private static Entry EntryOf(in TensorHash.Bytes tensor, int firstBlock)
    {
        bool gaps = tensor.RowBytes != tensor.RowStride;
        bool vectors = CudaLaunch.Aligned(tensor.Pointer) && (!gaps || (tensor.RowBytes % 16 == 0 && tensor.RowStride % 16 == 0));
        return new Entry
        {
            Data = tensor.Pointer,
            Length = tensor.Length,
            RowBytes = tensor.RowBytes,
            RowStride = tensor.RowStride,
            FirstChunk = tensor.FirstChunk,
            FirstBlock = firstBlock,
            Vectors = vectors ? 1 : 0,
        };
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Entry
    {
        public nint Data;
        public long Length;
        public long RowBytes;
        public long RowStride;
        public long FirstChunk;
        public int FirstBlock;
        public int Vectors;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint Entries;
        public nint Out;
        public Entry Only;
        public int Count;
    }
}
