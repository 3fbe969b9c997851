using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Transformer.Safetensors;

/// <summary>Between tensors and the safetensors format.</summary>
public static class SafetensorsBridge
{
    // Bytes staged at a time when a tensor is written: host memory for one tensor is never doubled, and a copy from a device
    // is long enough for its start not to count.
    private const int StagingBytes = 1 << 23;

    /// <summary>
    /// Copies a stored tensor to a device, straight from the mapped file, and converts between float dtypes where they differ
    /// (on the device, f64 on the host).
    /// </summary>
    public static unsafe Tensor Read(SafetensorsTensor stored, DType dtype, Device device)
    {
        ArgumentNullException.ThrowIfNull(stored);
        Span<int> extents = stackalloc int[stored.Rank];
        for (int i = 0; i < extents.Length; i++)
        {
            extents[i] = checked((int)stored.Shape[i]);
        }

        var shape = new Shape(extents);
        using var mapped = new Tensor(
            Storage.Wrap(Device.Cpu, (nint)stored.Pointer, stored.ByteLength, owner: null), stored.DType, shape, Strides.Contiguous(shape));

        // The mapped bytes may lie at any offset; the kernels read with unaligned loads.
        return HostUpload.Run(mapped, dtype, device);
    }

    /// <summary>An entry that writes a tensor, which must stay alive until the file is written.</summary>
    public static SafetensorsEntry Entry(string name, Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        Span<long> shape = stackalloc long[tensor.Shape.Rank];
        for (int i = 0; i < shape.Length; i++)
        {
            shape[i] = tensor.Shape[i];
        }

        return new SafetensorsEntry(name, tensor.DType, shape, tensor.ByteLength, stream => Write(tensor, stream));
    }

    private static void Write(Tensor tensor, Stream stream)
    {
        using Tensor dense = Copy.Dense(tensor);
        var staging = new byte[Math.Min(StagingBytes, dense.ByteLength)];
        for (long done = 0; done < dense.ByteLength; done += staging.Length)
        {
            Span<byte> part = staging.AsSpan(0, (int)Math.Min(staging.Length, dense.ByteLength - done));
            dense.Device.CopyToHost(dense.Pointer + (nint)done, part);
            stream.Write(part);
        }
    }
}
