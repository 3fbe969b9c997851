using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>
/// Copies trained A and B, converted, into the borders of frozen weights: all of them by one launch on a GPU. Keeps shares of
/// the places; the sources have to stay where they are.
/// </summary>
public sealed class BorderWriter : IDisposable
{
    private readonly List<(Tensor From, Tensor To)> _copies = [];
    private BorderWriterCuda? _cuda;

    /// <summary>Number of copies.</summary>
    public int Count => _copies.Count;

    /// <summary>Adds a linear's A [rank, K] and B [N, rank], contiguous floats.</summary>
    /// <exception cref="ArgumentException">Their shapes are not those of the linear's place.</exception>
    public void Add(BorderedWeight weight, int linear, Tensor a, Tensor b)
    {
        ArgumentNullException.ThrowIfNull(weight);
        Add(a, weight.DownPlaces(linear));
        Add(b, weight.UpPlaces(linear));
    }

    /// <summary>Copies them as they are now.</summary>
    public void Run()
    {
        if (_copies.Count == 0)
        {
            return;
        }

        Device device = _copies[0].To.Device;
        switch (device.Kind)
        {
            case DeviceKind.Cpu:
                RunOnCpu();
                break;
            case DeviceKind.Cuda:
                (_cuda ??= new BorderWriterCuda((CudaDevice)device, _copies)).Run();
                break;
            default:
                throw DeviceDispatch.Unsupported(nameof(BorderWriter), device);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _cuda?.Dispose();
        _copies.ForEach(static copy => copy.To.Dispose());
        _copies.Clear();
    }

    private void Add(Tensor from, IReadOnlyList<Tensor> places)
    {
        const string Op = "BorderWriter.Add";
        Check.Float(Op, from);
        foreach (Tensor place in places)
        {
            _copies.Add((from, place));
            Check.Shaped(Op, from, place.Shape);
            Check.SameDevice(Op, from, place);
        }
    }

    private void RunOnCpu()
    {
        foreach ((Tensor from, Tensor to) in _copies)
        {
            if (from.DType == to.DType)
            {
                Copy.Run(from, to);
                continue;
            }

            using Tensor converted = from.EmptyLike(to.DType);
            Cast.Run(from, converted);
            Copy.Run(converted, to);
        }
    }
}

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
