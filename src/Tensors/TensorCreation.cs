namespace Engine.Tensors;

public sealed partial class Tensor
{
    // A span holds at most 2³¹ − 1 bytes; larger tensors cross in pieces.
    private const long Piece = 1 << 30;

    /// <summary>A new contiguous tensor whose content is undefined.</summary>
    /// <exception cref="EngineDataException">Out of memory.</exception>
    public static Tensor Empty(Shape shape, DType dtype, Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        return new Tensor(dtype, shape, Strides.Contiguous(shape), 0, device.Allocate(shape.Elements * dtype.Size()));
    }

    /// <summary>
    /// A new matrix [R, C], each row followed by <paramref name="border"/> elements of scratch (see <see cref="Border"/>);
    /// contiguous when there are none. All content is undefined.
    /// </summary>
    /// <exception cref="EngineDataException">Out of memory.</exception>
    public static Tensor EmptyBordered(Shape shape, int border, DType dtype, Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentOutOfRangeException.ThrowIfNegative(border);
        ArgumentOutOfRangeException.ThrowIfNotEqual(shape.Rank, 2);
        long stride = (long)shape[1] + border;
        return new Tensor(dtype, shape, new Strides([stride, 1]), 0, device.Allocate(shape[0] * stride * dtype.Size()), border);
    }

    /// <summary>A new contiguous tensor of zeros.</summary>
    public static Tensor Zeros(Shape shape, DType dtype, Device device)
    {
        Tensor tensor = Empty(shape, dtype, device);
        tensor.Clear();
        return tensor;
    }

    /// <summary>A new tensor on <paramref name="device"/> with the elements of a host array.</summary>
    public static Tensor From<T>(ReadOnlySpan<T> elements, Shape shape, Device device)
        where T : unmanaged
    {
        if (elements.Length != shape.Elements)
        {
            throw new ArgumentException($"{elements.Length} elements do not fill shape {shape}");
        }

        Tensor tensor = Empty(shape, DTypes.Of<T>(), device);
        tensor.CopyFrom(elements);
        return tensor;
    }

    /// <inheritdoc cref="From{T}(ReadOnlySpan{T}, Shape, Device)"/>
    public static Tensor From<T>(T[] elements, Shape shape, Device device)
        where T : unmanaged => From((ReadOnlySpan<T>)elements, shape, device);

    /// <summary>A new contiguous tensor like this one (dtype, shape, device), content undefined.</summary>
    public Tensor EmptyLike() => Empty(Shape, DType, Device);

    /// <summary>A new contiguous tensor like this one with another dtype, content undefined.</summary>
    public Tensor EmptyLike(DType dtype) => Empty(Shape, dtype, Device);

    /// <summary>A new tensor of zeros like this one.</summary>
    public Tensor ZerosLike() => Zeros(Shape, DType, Device);

    /// <summary>A contiguous copy on the same device; this tensor is contiguous.</summary>
    public Tensor Clone()
    {
        if (!IsContiguous)
        {
            throw new InvalidOperationException($"cannot clone {this}: not contiguous; use Kernels.Copy");
        }

        Tensor copy = EmptyLike();
        Device.Copy(Pointer, copy.Pointer, ByteLength);
        return copy;
    }

    /// <summary>Copies a contiguous tensor to another device (or makes another share of it when it is there already).</summary>
    /// <exception cref="InvalidOperationException">The tensor is not contiguous.</exception>
    public unsafe Tensor To(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (ReferenceEquals(device, Device))
        {
            return Share();
        }

        if (!IsContiguous)
        {
            throw new InvalidOperationException($"cannot move {this}: not contiguous");
        }

        if (Device.Kind != DeviceKind.Cpu && device.Kind != DeviceKind.Cpu)
        {
            using Tensor host = To(Device.Cpu);
            return host.To(device);
        }

        Tensor result = Empty(Shape, DType, device);
        if (Device.Kind == DeviceKind.Cpu)
        {
            Upload((byte*)Pointer, device, result.Pointer, ByteLength);
        }
        else
        {
            Download(Device, Pointer, (byte*)result.Pointer, ByteLength);
        }

        return result;
    }

    /// <summary>The bytes of a contiguous host tensor of at most 2³¹ − 1 bytes.</summary>
    /// <exception cref="InvalidOperationException">Not on the host, or not contiguous.</exception>
    public unsafe Span<byte> HostBytes()
    {
        if (Device.Kind != DeviceKind.Cpu || !IsContiguous)
        {
            throw new InvalidOperationException($"no host bytes of {this}, contiguous: {IsContiguous}");
        }

        return new Span<byte>((void*)Pointer, checked((int)ByteLength));
    }

    private static unsafe void Upload(byte* source, Device device, nint destination, long byteLength)
    {
        for (long done = 0; done < byteLength; done += Piece)
        {
            int length = (int)Math.Min(Piece, byteLength - done);
            device.CopyFromHost(new ReadOnlySpan<byte>(source + done, length), destination + (nint)done);
        }
    }

    private static unsafe void Download(Device device, nint source, byte* destination, long byteLength)
    {
        for (long done = 0; done < byteLength; done += Piece)
        {
            int length = (int)Math.Min(Piece, byteLength - done);
            device.CopyToHost(source + (nint)done, new Span<byte>(destination + done, length));
        }
    }
}
