using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>The table of copies in device memory.</summary>
internal sealed class BorderWriterCuda : IDisposable
{
    private const string Op = "lowrank";
    private static readonly KernelFamily<Params> s_write = new(Op, "lowrank_write");

    private readonly CudaDevice _device;
    private readonly DType _dtype;
    private readonly CudaDeviceVariable<Entry> _entries;
    private readonly CudaDeviceVariable<Chunk> _chunks;
    private readonly KernelWork _work;

    /// <summary>Uploads the table; not while work is recorded.</summary>
    public BorderWriterCuda(CudaDevice device, List<(Tensor From, Tensor To)> copies)
    {
        _device = device;
        _dtype = copies[0].To.DType;
        var entries = new Entry[copies.Count];
        var chunks = new List<Chunk>();
        long bytes = 0;
        for (int i = 0; i < entries.Length; i++)
        {
            (Tensor from, Tensor to) = copies[i];
            if (to.DType != _dtype)
            {
                throw new ArgumentException($"{nameof(BorderWriter)}: borders of {_dtype.Name()} and {to.DType.Name()} in one table", nameof(copies));
            }

            entries[i] = new Entry(from.Pointer, to.Pointer, from.Elements, to.Strides[0], to.Strides[1], from.Shape[1], KernelTypes.Code(Op, from));
            for (int c = 0; c < CudaLaunch.CeilDiv(from.Elements, TensorTable.ChunkElements); c++)
            {
                chunks.Add(new Chunk(i, c));
            }

            bytes += from.ByteLength + to.ByteLength;
        }

        _entries = new CudaDeviceVariable<Entry>(device, entries.Length);
        try
        {
            _chunks = new CudaDeviceVariable<Chunk>(device, chunks.Count);
            _entries.CopyToDevice(entries);
            _chunks.CopyToDevice(CollectionsMarshal.AsSpan(chunks));
        }
        catch
        {
            _entries.Dispose();
            _chunks?.Dispose();
            throw;
        }

        _work = new KernelWork(bytes, 0);
    }

    public void Run()
    {
        if (_chunks.Length > 0)
        {
            s_write.Launch(
                _device, _dtype, LaunchShape.Blocks(_chunks.Length, 256),
                new Params { Entries = _entries.DevicePointer, Chunks = _chunks.DevicePointer }, _work);
        }
    }

    public void Dispose()
    {
        _entries.Dispose();
        _chunks.Dispose();
    }

    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct Entry(nint From, nint To, long Elements, long RowStride, long ColumnStride, int Columns, int Type);

    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct Chunk(int Tensor, int Index);

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint Entries;
        public nint Chunks;
    }
}
