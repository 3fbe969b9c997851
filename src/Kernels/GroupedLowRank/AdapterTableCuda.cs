using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>A table in device memory: <c>kernels-cu/groupedlowrank/params.cuh</c>.</summary>
internal sealed class AdapterTableCuda : IDisposable
{
    private const string Op = "GroupedLowRank";
    private const int Threads = 256;
    private const int CopyBlocks = 32;

    // Rows of copies begin at multiples of 16 bytes.
    private const int Padding = 8;

    private static readonly KernelFamily<PackParams> s_pack = new("groupedlowrank", "groupedlowrank_pack");

    private readonly AdapterTable _table;
    private readonly CudaDevice _device;
    private readonly CudaDeviceVariable<Entry> _entries;
    private readonly CudaDeviceVariable<Addresses> _gradients;
    private readonly CudaDeviceVariable<Addresses>? _masters;
    private readonly Storage? _copies;
    private readonly Addresses[] _bound;
    private readonly long _copyBytes;

    /// <summary>Uploads the table.</summary>
    /// <exception cref="NotSupportedException">A dtype is not one that the kernels take.</exception>
    public AdapterTableCuda(AdapterTable table)
    {
        _table = table;
        _device = (CudaDevice)table.Device;
        using DurableScope durable = _device.Durable();
        int size = table.Activations.Size();
        _ = KernelTypes.Code(Op, _device, table.Activations);
        bool copies = table.Activations != DType.F32;
        var entries = new Entry[table.Count];
        var masters = new Addresses[table.Count];
        long elements = 0;
        for (int i = 0; i < entries.Length; i++)
        {
            if (table[i] is not { } adapter)
            {
                continue;
            }

            RequireMaster(adapter.A);
            RequireMaster(adapter.B);
            int rank = adapter.A.Shape[0];
            int aStride = copies ? Padded(table.Inputs) : table.Inputs;
            int bStride = copies ? Padded(rank) : rank;
            masters[i] = new Addresses(adapter.A.Pointer, adapter.B.Pointer);
            entries[i] = new Entry
            {
                // Offsets until the copies' memory is there.
                A = copies ? (nint)(elements * size) : adapter.A.Pointer,
                B = copies ? (nint)((elements + ((long)rank * aStride)) * size) : adapter.B.Pointer,
                Rank = rank,
                AStride = aStride,
                BStride = bStride,
                Scale = adapter.Scale,
            };
            elements += copies ? ((long)rank * aStride) + ((long)table.Outputs * bStride) : 0;
        }

        _bound = new Addresses[entries.Length];
        _entries = new CudaDeviceVariable<Entry>(_device, entries.Length);
        _gradients = new CudaDeviceVariable<Addresses>(_device, entries.Length);
        _gradients.CopyToDevice(_bound);
        if (copies)
        {
            _copyBytes = elements * size;
            _copies = _device.Allocate(_copyBytes);
            _masters = new CudaDeviceVariable<Addresses>(_device, masters.Length);
            _masters.CopyToDevice(masters);
            for (int i = 0; i < entries.Length; i++)
            {
                entries[i].A += _copies.Pointer;
                entries[i].B += _copies.Pointer;
            }
        }

        _entries.CopyToDevice(entries);
        Refresh();
    }

    /// <summary>The entries' address.</summary>
    public nint Entries => _entries.DevicePointer;

    /// <summary>The gradients' addresses' address.</summary>
    public nint Gradients => _gradients.DevicePointer;

    /// <summary>Makes the copies, if there are any.</summary>
    public void Refresh()
    {
        if (_masters is not null)
        {
            s_pack.Launch(
                _device,
                _table.Activations,
                new LaunchShape(CopyBlocks, (uint)_table.Count, 2, Threads),
                new PackParams { Table = Entries, Masters = _masters.DevicePointer, Inputs = _table.Inputs, Outputs = _table.Outputs },
                new KernelWork(3 * _copyBytes));
        }
    }

    /// <summary>Tells the kernels where gradients go; uploads only what has changed since, which recorded work cannot.</summary>
    /// <exception cref="NotSupportedException">A gradient is not f32.</exception>
    public void Bind(ReadOnlySpan<GroupedGradient> gradients)
    {
        bool changed = false;
        for (int i = 0; i < gradients.Length; i++)
        {
            RequireMaster(gradients[i].A);
            RequireMaster(gradients[i].B);
            var addresses = new Addresses(CudaLaunch.PointerOf(gradients[i].A), CudaLaunch.PointerOf(gradients[i].B));
            changed |= addresses != _bound[i];
            _bound[i] = addresses;
        }

        if (changed)
        {
            _gradients.CopyToDevice(_bound);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _entries.Dispose();
        _gradients.Dispose();
        _masters?.Dispose();
        _copies?.Release();
    }

    private static int Padded(int columns) => (columns + Padding - 1) / Padding * Padding;

    private static void RequireMaster(Tensor? tensor)
    {
        if (tensor is not null && tensor.DType != DType.F32)
        {
            throw new NotSupportedException($"{Op} takes A, B and their gradients in f32 on {tensor.Device.Name}, not {tensor}");
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Entry
    {
        public nint A;
        public nint B;
        public int Rank;
        public int AStride;
        public int BStride;
        public float Scale;
    }

    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct Addresses(nint A, nint B);

    [StructLayout(LayoutKind.Sequential)]
    private struct PackParams
    {
        public nint Table;
        public nint Masters;
        public int Inputs;
        public int Outputs;
    }
}
