using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>Host tensors on their way to a device in another dtype.</summary>
public static class HostUpload
{
    /// <summary>
    /// A copy of a contiguous host tensor on a device, in <paramref name="dtype"/>. The stored bytes cross as they are and are
    /// converted there; f64, which is converted on the host alone, crosses converted. The tensor may lie at any address and
    /// may be a mapped file.
    /// </summary>
    /// <exception cref="ArgumentException">A dtype is no float type and the two differ.</exception>
    public static Tensor Run(Tensor host, DType dtype, Device device)
    {
        ArgumentNullException.ThrowIfNull(host);
        ArgumentNullException.ThrowIfNull(device);
        bool convertsHere = device.Kind == DeviceKind.Cpu || host.DType == DType.F64 || dtype == DType.F64;
        if (host.DType == dtype || !convertsHere)
        {
            Tensor copy = Copy(host, device);
            return host.DType == dtype ? copy : Converted(copy, dtype);
        }

        Tensor converted = Tensor.Empty(host.Shape, dtype, Device.Cpu);
        using (converted)
        {
            Cast.Run(host, converted);
            return converted.To(device);
        }
    }

    private static Tensor Converted(Tensor stored, DType dtype)
    {
        using (stored)
        {
            Tensor result = stored.EmptyLike(dtype);
            try
            {
                Cast.Run(stored, result);
                return result;
            }
            catch
            {
                result.Dispose();
                throw;
            }
        }
    }

    private static unsafe Tensor Copy(Tensor host, Device device)
    {
        Tensor copy = host.IsContiguous
            ? Tensor.Empty(host.Shape, host.DType, device)
            : throw new ArgumentException($"cannot upload {host}: not contiguous", nameof(host));

        // A span holds at most 2³¹ − 1 bytes.
        for (long done = 0; done < host.ByteLength; done += 1 << 30)
        {
            int count = (int)Math.Min(1 << 30, host.ByteLength - done);
            device.CopyFromHost(new ReadOnlySpan<byte>((byte*)host.Pointer + done, count), copy.Pointer + (nint)done);
        }

        return copy;
    }
}
