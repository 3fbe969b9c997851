using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels.Cuda;

/// <summary>What the launchers share.</summary>
internal static class CudaLaunch
{
    /// <summary>The tensor's device; the caller has switched on its kind.</summary>
    public static CudaDevice Device(Tensor tensor) => (CudaDevice)tensor.Device;

    /// <summary>The address of an optional tensor, 0 for none.</summary>
    public static nint PointerOf(Tensor? tensor) => tensor?.Pointer ?? 0;

    /// <summary>Whether an address is a multiple of 16 bytes (0 is).</summary>
    public static bool Aligned(nint pointer) => (pointer & 15) == 0;

    /// <summary>Whether contiguous rows of this many elements of this dtype all begin at multiples of 16 bytes.</summary>
    public static bool AlignedRows(Tensor tensor, long columns) =>
        Aligned(tensor.Pointer) && columns * tensor.DType.Size() % 16 == 0;

    /// <summary>Threads of a block that walks a row of this many items: a power of two from 32 to <paramref name="most"/>.</summary>
    public static uint ThreadsFor(long items, uint most = 512)
    {
        uint threads = 32;
        while (threads < most && threads < items)
        {
            threads *= 2;
        }

        return threads;
    }

    /// <summary>⌈a ∕ b⌉.</summary>
    public static long CeilDiv(long a, long b) => (a + b - 1) / b;
}
