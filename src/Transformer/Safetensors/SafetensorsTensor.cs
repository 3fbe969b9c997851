using Engine.Tensors;

namespace Engine.Transformer.Safetensors;

/// <summary>
/// One tensor of an open <see cref="SafetensorsFile"/>: its description and its bytes (little-endian, row-major,
/// contiguous). The bytes belong to the file: spans and pointers are valid until the file is disposed.
/// </summary>
public sealed class SafetensorsTensor
{
    private readonly SafetensorsFile _file;
    private readonly DType? _dtype;
    private readonly long[] _shape;

    internal SafetensorsTensor(
        SafetensorsFile file, string name, string dtypeName, DType? dtype, long[] shape, long elementCount, long begin, long end)
    {
        _file = file;
        Name = name;
        DTypeName = dtypeName;
        _dtype = dtype;
        _shape = shape;
        ElementCount = elementCount;
        Begin = begin;
        End = end;
    }

    /// <summary>The tensor's name in the file.</summary>
    public string Name { get; }

    /// <summary>The format's own name of the element type, such as <c>F32</c> or <c>BOOL</c>.</summary>
    public string DTypeName { get; }

    /// <summary>True when <see cref="DType"/> can be read; false for element types Engine has no use for.</summary>
    public bool IsSupported => _dtype is not null;

    /// <summary>The element type.</summary>
    /// <exception cref="EngineDataException">The element type is valid safetensors but not one of Engine's.</exception>
    public DType DType => _dtype ?? throw new EngineDataException(
        $"{_file.Path}: tensor {ErrorText.Quote(Name)} has dtype {DTypeName}, which is not supported; supported: {SafetensorsDType.Supported}");

    /// <summary>Extents, outermost first; empty for a scalar.</summary>
    public ReadOnlySpan<long> Shape => _shape;

    /// <summary>Number of dimensions.</summary>
    public int Rank => _shape.Length;

    /// <summary>Product of the extents: 1 for a scalar, 0 for an empty tensor.</summary>
    public long ElementCount { get; }

    /// <summary>Size of the data in bytes.</summary>
    public long ByteLength => End - Begin;

    /// <summary>The path of the file that holds the tensor, for messages.</summary>
    public string FilePath => _file.Path;

    /// <summary>
    /// Address of the first byte. Aligned to the element size in files written by the reference library or by
    /// <see cref="SafetensorsWriter"/>; other writers need not align.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    public unsafe byte* Pointer => _file.DataPointer + Begin;

    /// <summary>All bytes. For tensors over 2 GiB use <see cref="Slice"/> or <see cref="Pointer"/>.</summary>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    /// <exception cref="NotSupportedException">The tensor is larger than a span can be.</exception>
    public unsafe ReadOnlySpan<byte> Data
    {
        get
        {
            byte* pointer = Pointer;
            return ByteLength <= int.MaxValue
                ? new ReadOnlySpan<byte>(pointer, (int)ByteLength)
                : throw new NotSupportedException($"tensor {Name} has {ByteLength} bytes, more than a span holds; use Slice");
        }
    }

    internal long Begin { get; }

    internal long End { get; }

    /// <summary>The bytes from <paramref name="offset"/>, <paramref name="length"/> of them.</summary>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The range leaves the tensor.</exception>
    public unsafe ReadOnlySpan<byte> Slice(long offset, int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, ByteLength - length);
        return new ReadOnlySpan<byte>(Pointer + offset, length);
    }

    /// <summary>Copies all bytes to <paramref name="destination"/> in pieces of at most 1 MiB.</summary>
    /// <exception cref="ObjectDisposedException">The file was disposed.</exception>
    public void CopyTo(Stream destination)
    {
        ArgumentNullException.ThrowIfNull(destination);
        const int Piece = 1 << 20;
        for (long offset = 0; offset < ByteLength; offset += Piece)
        {
            destination.Write(Slice(offset, (int)Math.Min(Piece, ByteLength - offset)));
        }
    }
}
