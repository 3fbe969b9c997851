using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>The norm of the tensors of a table, and the memory its blocks need; may be used again and recorded.</summary>
internal sealed class GradientNormCuda : IDisposable
{
    private const int Threads = 256;

    private static readonly KernelFamily<Params> s_compute = new("gradientnorm", "gradientnorm_compute");

    private readonly CudaDevice _device;
    private readonly TensorTable _table;
    private readonly CudaDeviceVariable<double> _partials;
    private readonly CudaDeviceVariable<uint> _arrived;

    /// <summary>Takes the memory; the table stays the caller's.</summary>
    public GradientNormCuda(CudaDevice device, TensorTable table)
    {
        _device = device;
        _table = table;
        _partials = new CudaDeviceVariable<double>(device, table.ChunkCount);
        _arrived = new CudaDeviceVariable<uint>(device, 1);
        device.Clear(_arrived.DevicePointer, sizeof(uint));
    }

    /// <summary>Queues the norm of these tensors.</summary>
    public static void Compute(IReadOnlyList<Tensor> gradients, Tensor norm)
    {
        CudaDevice device = CudaLaunch.Device(norm);
        using var table = new TensorTable("GradientNorm.Compute", device, gradients);
        using var once = new GradientNormCuda(device, table);
        once.Compute(norm);
    }

    /// <summary>Queues the norm of the table's tensors.</summary>
    public void Compute(Tensor norm) => s_compute.Launch(
        _device,
        LaunchShape.Blocks(Math.Max(1, _table.ChunkCount), Threads),
        new Params
        {
            Tensors = _table.Tensors,
            Chunks = _table.Chunks,
            Partials = _partials.DevicePointer,
            Arrived = _arrived.DevicePointer,
            Norm = norm.Pointer,
            ChunkCount = _table.ChunkCount,
        },
        new KernelWork(_table.Bytes, 2 * _table.Elements));

    /// <inheritdoc/>
    public void Dispose()
    {
        _partials.Dispose();
        _arrived.Dispose();
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint Tensors;
        public nint Chunks;
        public nint Partials;
        public nint Arrived;
        public nint Norm;
        public int ChunkCount;
    }
}
