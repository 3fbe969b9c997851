using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Engine.Tensors.Cuda.Interop;
using static Engine.Tensors.Cuda.CudaException;

namespace Engine.Tensors.Cuda;

/// <summary>
/// A device's primary context and what the device can do. Driver calls act on the context current to their thread:
/// <see cref="MakeCurrent"/> costs a comparison when it is current already.
/// </summary>
public sealed unsafe class CudaContext : IDisposable
{
    /// <summary>The oldest driver that serves, as <c>cuDriverGetVersion</c> counts: CUDA 12.0.</summary>
    public const int OldestDriver = 12000;

    /// <summary>The oldest compute capability the kernel images are built for.</summary>
    public const int OldestCapability = 80;

    [ThreadStatic]
    private static CudaContext? t_current;

    private readonly CUdevice _device;
    private readonly CUcontext _context;
    private bool _disposed;

    private CudaContext(int ordinal, CUdevice device, int driverVersion)
    {
        Ordinal = ordinal;
        DriverVersion = driverVersion;
        _device = device;
        ComputeCapability = (Attribute(CUdeviceAttribute.ComputeCapabilityMajor) * 10) + Attribute(CUdeviceAttribute.ComputeCapabilityMinor);
        Multiprocessors = Attribute(CUdeviceAttribute.MultiprocessorCount);
        L2Bytes = Attribute(CUdeviceAttribute.L2CacheSize);
        SharedBytesPerBlock = Attribute(CUdeviceAttribute.MaxSharedMemoryPerBlockOptin);
        nuint total;
        Check(CudaDriver.cuDeviceTotalMem_v2(&total, device));
        TotalBytes = (long)total;
        byte* name = stackalloc byte[256];
        Check(CudaDriver.cuDeviceGetName(name, 256, device));
        DeviceName = Marshal.PtrToStringUTF8((nint)name) ?? "";
        if (ComputeCapability < OldestCapability)
        {
            throw new EngineDataException(
                $"cuda:{ordinal} is {DeviceName} with compute capability {ComputeCapability / 10}.{ComputeCapability % 10}; " +
                $"the kernels need {OldestCapability / 10}.{OldestCapability % 10} (Ampere) or newer: use another GPU or --device cpu");
        }

        CUcontext context;
        Check(CudaDriver.cuDevicePrimaryCtxRetain(&context, device));
        _context = context;
        MakeCurrent();
    }

    /// <summary>The device's number.</summary>
    public int Ordinal { get; }

    /// <summary>For example <c>NVIDIA H200</c>.</summary>
    public string DeviceName { get; }

    /// <summary>Ten times major plus minor: 90 for Hopper.</summary>
    public int ComputeCapability { get; }

    /// <summary>The CUDA version the driver supports, such as 13000 for 13.0.</summary>
    public int DriverVersion { get; }

    /// <summary>Streaming multiprocessors.</summary>
    public int Multiprocessors { get; }

    /// <summary>L2 cache in bytes.</summary>
    public long L2Bytes { get; }

    /// <summary>Dynamic shared memory that one block can have, in bytes.</summary>
    public int SharedBytesPerBlock { get; }

    /// <summary>Device memory in bytes.</summary>
    public long TotalBytes { get; }

    /// <summary>Why there is no CUDA device to use, or null when there is one. Creates no context.</summary>
    public static string? WhyUnavailable()
    {
        try
        {
            _ = CountDevices(out _);
            return null;
        }
        catch (EngineDataException e)
        {
            return e.Message;
        }
    }

    /// <summary>Number of devices.</summary>
    /// <exception cref="EngineDataException">No driver, one that is too old, or no device; the message says what to do.</exception>
    public static int CountDevices(out int driverVersion)
    {
        driverVersion = 0;
        if (!CudaLibraries.TryLoad("cuda", out _, out string? failure))
        {
            throw new EngineDataException(failure);
        }

        CUresult status = CudaDriver.cuInit(0);
        int version = 0;
        _ = CudaDriver.cuDriverGetVersion(&version);
        driverVersion = version;
        if (version is > 0 and < OldestDriver)
        {
            throw new EngineDataException(
                $"the NVIDIA driver supports CUDA {version / 1000}.{version % 1000 / 10}; Engine needs a driver for CUDA 12.0 or newer (525 or newer): update the driver");
        }

        if (status is CUresult.NoDevice)
        {
            throw new EngineDataException("the NVIDIA driver finds no GPU; check nvidia-smi, CUDA_VISIBLE_DEVICES and, in a container, --gpus all");
        }

        if (status != CUresult.Success)
        {
            throw new EngineDataException($"the NVIDIA driver does not start: {Describe(status)}; check nvidia-smi");
        }

        int count;
        Check(CudaDriver.cuDeviceGetCount(&count));
        return count > 0
            ? count
            : throw new EngineDataException("the NVIDIA driver finds no GPU; check nvidia-smi, CUDA_VISIBLE_DEVICES and, in a container, --gpus all");
    }

    /// <summary>Opens a device.</summary>
    /// <exception cref="EngineDataException">There is no such device or it cannot be used; the message says why and what to do.</exception>
    public static CudaContext Open(int ordinal)
    {
        int count = CountDevices(out int version);
        if ((uint)ordinal >= (uint)count)
        {
            throw new EngineDataException($"there is no cuda:{ordinal}; this machine has {count} CUDA device{(count == 1 ? "" : "s")}, cuda:0{(count == 1 ? "" : $" to cuda:{count - 1}")}");
        }

        CUdevice device;
        Check(CudaDriver.cuDeviceGet(&device, ordinal));
        return new CudaContext(ordinal, device, version);
    }

    /// <summary>Makes the context the calling thread's.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void MakeCurrent()
    {
        if (t_current != this)
        {
            Switch();
        }
    }

    /// <summary>The same for disposal, where a failure is not to hide what led there.</summary>
    public void TryMakeCurrent()
    {
        if (CudaDriver.cuCtxSetCurrent(_context) == CUresult.Success)
        {
            t_current = this;
        }
    }

    /// <summary>Free and total device memory in bytes, as the driver sees them.</summary>
    public (long Free, long Total) MemoryInfo()
    {
        MakeCurrent();
        nuint free;
        nuint total;
        Check(CudaDriver.cuMemGetInfo_v2(&free, &total));
        return ((long)free, (long)total);
    }

    /// <summary>Waits for everything on the device.</summary>
    public void Synchronize()
    {
        MakeCurrent();
        Check(CudaDriver.cuCtxSynchronize());
    }

    /// <summary>Tells an attached profiler that was started without collecting to collect from now on; does nothing without one.</summary>
    public void StartProfiler()
    {
        MakeCurrent();
        Check(CudaDriver.cuProfilerStart());
    }

    /// <summary>Ends <see cref="StartProfiler"/>.</summary>
    public void StopProfiler()
    {
        MakeCurrent();
        Check(CudaDriver.cuProfilerStop());
    }

    /// <summary>A device attribute.</summary>
    public int Attribute(CUdeviceAttribute attribute)
    {
        int value;
        Check(CudaDriver.cuDeviceGetAttribute(&value, attribute, _device));
        return value;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            t_current = null;
            _ = CudaDriver.cuDevicePrimaryCtxRelease_v2(_device);
        }
    }

    private void Switch()
    {
        Check(CudaDriver.cuCtxSetCurrent(_context));
        t_current = this;
    }
}
