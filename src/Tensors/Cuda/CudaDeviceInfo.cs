using System.Runtime.InteropServices;
using Engine.Tensors.Cuda.Interop;
using static Engine.Tensors.Cuda.CudaException;

namespace Engine.Tensors.Cuda;

/// <summary>A GPU as the driver describes it, whether or not it can be used; nothing is opened on it.</summary>
/// <param name="Ordinal">Its number: <c>cuda:n</c>.</param>
/// <param name="Name">For example <c>NVIDIA H200</c>.</param>
/// <param name="ComputeCapability">Ten times major plus minor.</param>
/// <param name="TotalBytes">Device memory.</param>
/// <param name="Multiprocessors">Streaming multiprocessors.</param>
/// <param name="L2Bytes">L2 cache.</param>
public sealed record CudaDeviceInfo(
    int Ordinal, string Name, int ComputeCapability, long TotalBytes, int Multiprocessors, long L2Bytes)
{
    /// <summary>Whether the kernel images run on it.</summary>
    public bool IsSupported => ComputeCapability >= CudaContext.OldestCapability;

    /// <summary>All GPUs of the machine.</summary>
    /// <param name="driverVersion">The CUDA version the driver supports, such as 13000 for 13.0.</param>
    /// <exception cref="EngineDataException">No driver, one that is too old, or no device; the message says what to do.</exception>
    public static IReadOnlyList<CudaDeviceInfo> All(out int driverVersion)
    {
        var all = new CudaDeviceInfo[CudaContext.CountDevices(out driverVersion)];
        for (int i = 0; i < all.Length; i++)
        {
            all[i] = Read(i);
        }

        return all;
    }

    private static unsafe CudaDeviceInfo Read(int ordinal)
    {
        CUdevice device;
        Check(CudaDriver.cuDeviceGet(&device, ordinal));
        nuint total;
        Check(CudaDriver.cuDeviceTotalMem_v2(&total, device));
        byte* name = stackalloc byte[256];
        Check(CudaDriver.cuDeviceGetName(name, 256, device));
        return new CudaDeviceInfo(
            ordinal,
            Marshal.PtrToStringUTF8((nint)name) ?? "",
            (10 * Attribute(device, CUdeviceAttribute.ComputeCapabilityMajor)) + Attribute(device, CUdeviceAttribute.ComputeCapabilityMinor),
            (long)total,
            Attribute(device, CUdeviceAttribute.MultiprocessorCount),
            Attribute(device, CUdeviceAttribute.L2CacheSize));
    }

    private static unsafe int Attribute(CUdevice device, CUdeviceAttribute attribute)
    {
        int value;
        Check(CudaDriver.cuDeviceGetAttribute(&value, attribute, device));
        return value;
    }
}
