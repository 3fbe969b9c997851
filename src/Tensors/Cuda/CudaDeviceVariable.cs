using System.Runtime.InteropServices;

namespace Engine.Tensors.Cuda;

/// <summary>Device memory for elements of one blittable type, taken from the device's pool.</summary>
public sealed unsafe class CudaDeviceVariable<T> : IDisposable
    where T : unmanaged
{
    private readonly CudaDevice _device;
    private Storage? _storage;

    /// <summary>Takes memory for <paramref name="length"/> elements; the content is undefined.</summary>
    /// <exception cref="EngineDataException">Out of memory.</exception>
    public CudaDeviceVariable(CudaDevice device, long length)
    {
        ArgumentNullException.ThrowIfNull(device);
        _device = device;
        Length = length;
        _storage = device.Allocate(checked(length * sizeof(T)));
    }

    /// <summary>Number of elements.</summary>
    public long Length { get; }

    /// <summary>Address of the first element on the device.</summary>
    public nint DevicePointer => (_storage ?? throw new ObjectDisposedException(nameof(CudaDeviceVariable<T>))).Pointer;

    /// <summary>Copies elements in; the source may be changed afterwards.</summary>
    public void CopyToDevice(ReadOnlySpan<T> source)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(source.Length, Length, nameof(source));
        _device.CopyFromHost(MemoryMarshal.AsBytes(source), DevicePointer);
    }

    /// <summary>Copies elements out and waits for them.</summary>
    public void CopyToHost(Span<T> destination)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(destination.Length, Length, nameof(destination));
        _device.CopyToHost(DevicePointer, MemoryMarshal.AsBytes(destination));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _storage?.Release();
        _storage = null;
    }
}
