using System.Runtime.InteropServices;
using Engine.Tensors;

namespace Engine.Tests.Shared;

/// <summary>A tensor's elements on the host, from whatever device.</summary>
internal static class TensorValues
{
    /// <summary>All elements in row-major order, widened exactly.</summary>
    public static double[] ToDoubles(this Tensor tensor) => tensor.DType switch
    {
        DType.F32 => Array.ConvertAll(tensor.ToArray<float>(), x => (double)x),
        DType.F64 => tensor.ToArray<double>(),
        DType.BF16 => Array.ConvertAll(tensor.ToArray<BFloat16>(), x => (double)(float)x),
        DType.F16 => Array.ConvertAll(tensor.ToArray<Half>(), x => (double)x),
        DType.I32 => Array.ConvertAll(tensor.ToArray<int>(), x => (double)x),
        _ => throw new NotSupportedException(tensor.DType.Name()),
    };

    /// <summary>The elements' bytes in row-major order.</summary>
    public static byte[] ToBytes(this Tensor tensor) => tensor.DType switch
    {
        DType.F32 => Bytes<float>(tensor),
        DType.F64 => Bytes<double>(tensor),
        DType.BF16 => Bytes<BFloat16>(tensor),
        DType.F16 => Bytes<Half>(tensor),
        DType.I32 => Bytes<int>(tensor),
        _ => throw new NotSupportedException(tensor.DType.Name()),
    };

    private static byte[] Bytes<T>(Tensor tensor)
        where T : unmanaged => MemoryMarshal.AsBytes(tensor.ToArray<T>().AsSpan()).ToArray();
}
