using Engine.Tensors;

namespace Engine.Transformer.Safetensors;

/// <summary>One tensor to be written: its description, and a callback that produces its bytes when their turn comes.</summary>
public sealed class SafetensorsEntry
{
    private readonly long[] _shape;

    /// <summary>Describes a tensor whose bytes <paramref name="write"/> produces.</summary>
    /// <param name="name">The tensor's name; not <c>__metadata__</c>.</param>
    /// <param name="dtype">Element type.</param>
    /// <param name="shape">Extents, outermost first; empty for a scalar.</param>
    /// <param name="byteLength">Product of the extents times the element size.</param>
    /// <param name="write">Writes exactly <paramref name="byteLength"/> bytes, little-endian, row-major.</param>
    /// <exception cref="ArgumentException">The shape is negative or does not fit <paramref name="byteLength"/>.</exception>
    public SafetensorsEntry(string name, DType dtype, ReadOnlySpan<long> shape, long byteLength, Action<Stream> write)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(write);
        if (name == "__metadata__")
        {
            throw new ArgumentException("__metadata__ is the format's own key, not a tensor's name", nameof(name));
        }

        long bytes = dtype.Size();
        foreach (long extent in shape)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(extent, nameof(shape));
            bytes = checked(bytes * extent);
        }

        if (bytes != byteLength)
        {
            throw new ArgumentException(
                $"tensor {name}: shape {ErrorText.Shape(shape)} of {dtype.Name()} has {bytes} bytes, not {byteLength}", nameof(byteLength));
        }

        Name = name;
        DType = dtype;
        ByteLength = byteLength;
        Write = write;
        _shape = shape.ToArray();
    }

    /// <summary>The tensor's name.</summary>
    public string Name { get; }

    /// <summary>Element type.</summary>
    public DType DType { get; }

    /// <summary>Extents, outermost first.</summary>
    public ReadOnlySpan<long> Shape => _shape;

    /// <summary>Size of the data in bytes.</summary>
    public long ByteLength { get; }

    /// <summary>Writes the data, exactly <see cref="ByteLength"/> bytes.</summary>
    public Action<Stream> Write { get; }

    /// <summary>A tensor whose bytes are at hand.</summary>
    /// <exception cref="ArgumentException">The number of bytes does not fit the shape.</exception>
    public static SafetensorsEntry FromBytes(string name, DType dtype, ReadOnlySpan<long> shape, ReadOnlyMemory<byte> bytes) =>
        new(name, dtype, shape, bytes.Length, stream => stream.Write(bytes.Span));

    /// <summary>A tensor copied unchanged from an open file, which must stay open until the write is done.</summary>
    /// <param name="tensor">The tensor to copy.</param>
    /// <param name="name">Its new name; by default its old one.</param>
    /// <exception cref="EngineDataException">The tensor's element type is not one of Engine's.</exception>
    public static SafetensorsEntry CopyOf(SafetensorsTensor tensor, string? name = null)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        return new SafetensorsEntry(name ?? tensor.Name, tensor.DType, tensor.Shape, tensor.ByteLength, tensor.CopyTo);
    }
}
