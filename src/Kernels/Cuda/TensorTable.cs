using System.Runtime.InteropServices;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels.Cuda;

/// <summary>
/// Many tensors for one launch: a table of them in device memory and their elements cut into chunks of one size, a block
/// each. Laid out as in <c>kernels-cu/common/multitensor.cuh</c>. Holds addresses: the tensors have to outlive it.
/// </summary>
internal sealed class TensorTable : IDisposable
{
    /// <summary>Elements of a chunk.</summary>
    public const int ChunkElements = 4096;

    private readonly CudaDeviceVariable<TensorEntry> _tensors;
    private readonly CudaDeviceVariable<ChunkEntry> _chunks;

    /// <summary>Uploads the table; not while work is recorded.</summary>
    /// <exception cref="NotSupportedException">A tensor's dtype is not one that kernels store.</exception>
    public TensorTable(string op, CudaDevice device, IReadOnlyList<Tensor> tensors)
    {
        var entries = new TensorEntry[tensors.Count];
        var chunks = new List<ChunkEntry>();
        for (int i = 0; i < entries.Length; i++)
        {
            Tensor tensor = tensors[i];
            KernelTypes.Require(op, tensor);
            entries[i] = new TensorEntry(tensor.Pointer, tensor.Elements, (int)tensor.DType, CudaLaunch.Aligned(tensor.Pointer) ? 1 : 0);
            int count = checked((int)CudaLaunch.CeilDiv(tensor.Elements, ChunkElements));
            for (int c = 0; c < count; c++)
            {
                chunks.Add(new ChunkEntry(i, c));
            }

            Elements += tensor.Elements;
            Bytes += tensor.ByteLength;
        }

        ChunkCount = chunks.Count;
        _tensors = new CudaDeviceVariable<TensorEntry>(device, entries.Length);
        _chunks = new CudaDeviceVariable<ChunkEntry>(device, ChunkCount);
        _tensors.CopyToDevice(entries);
        _chunks.CopyToDevice(CollectionsMarshal.AsSpan(chunks));
    }

    /// <summary>Number of chunks: blocks of a launch.</summary>
    public int ChunkCount { get; }

    /// <summary>Elements of all tensors.</summary>
    public long Elements { get; }

    /// <summary>Bytes of all tensors.</summary>
    public long Bytes { get; }

    /// <summary>The table's address.</summary>
    public nint Tensors => _tensors.DevicePointer;

    /// <summary>The chunks' address.</summary>
    public nint Chunks => _chunks.DevicePointer;

    /// <inheritdoc/>
    public void Dispose()
    {
        _tensors.Dispose();
        _chunks.Dispose();
    }

    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct TensorEntry(nint Data, long Elements, int Type, int Vectors);

    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct ChunkEntry(int Tensor, int Index);
}
