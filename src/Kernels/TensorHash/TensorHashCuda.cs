using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class TensorHashCuda
{
    private const int ChunksPerBlock = 8;

    private static readonly KernelFamily<Params> s_chunks = new("tensorhash", "tensorhash_chunks");

    /// <summary>The hashes of the chunks; waits for the device.</summary>
    public static void Chunks(Device device, in TensorHash.Bytes bytes, Span<UInt128> hashes)
    {
        if (hashes.IsEmpty)
        {
            return;
        }

        // In memory a UInt128 is its lower half and then its upper one.
        using var result = new CudaDeviceVariable<UInt128>((CudaDevice)device, hashes.Length);
        bool gaps = bytes.RowBytes != bytes.RowStride;
        bool vectors = CudaLaunch.Aligned(bytes.Pointer) && (!gaps || (bytes.RowBytes % 16 == 0 && bytes.RowStride % 16 == 0));
        s_chunks.Launch(
            device,
            LaunchShape.Blocks(CudaLaunch.CeilDiv(hashes.Length, ChunksPerBlock), 32),
            new Params
            {
                Data = bytes.Pointer,
                Out = result.DevicePointer,
                Length = bytes.Length,
                RowBytes = bytes.RowBytes,
                RowStride = bytes.RowStride,
                Chunks = hashes.Length,
                Vectors = vectors ? 1 : 0,
            },
            new KernelWork(bytes.Length));
        result.CopyToHost(hashes);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint Data;
        public nint Out;
        public long Length;
        public long RowBytes;
        public long RowStride;
        public long Chunks;
        public int Vectors;
    }
}
