using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>
/// What <see cref="Merge.Undo(Tensor, ReadOnlySpan{MergeTerm}, bool, MergeCorrection)"/> needs besides the adapters: the
/// original bits of every element that subtracting the same Δ would not bring back. It lies where the matrix lies.
/// </summary>
/// <remarks>
/// On the CPU each block of rows has a segment of bytes. Its first byte tells the form. List: for each recorded element, in
/// the order the merge visits them, the number of elements passed over since the last one (LEB128) and the original element,
/// little-endian. Copy: all original elements of the block, chosen where the list would be longer. So a correction is
/// never longer than the matrix and one byte a block. On CUDA see <see cref="MergeRecords"/>.
/// </remarks>
public sealed class MergeCorrection : IDisposable
{
    internal const byte List = 0;
    internal const byte Copy = 1;

    internal MergeCorrection(Shape shape, DType dtype, bool transposed, int terms, int blocks)
    {
        (Shape, DType, Transposed, Terms) = (shape, dtype, transposed, terms);
        Segments = new byte[blocks][];
        Counts = new long[blocks];
    }

    internal MergeCorrection(Shape shape, DType dtype, bool transposed, int terms, MergeRecords records)
        : this(shape, dtype, transposed, terms, 0) => Records = records;

    /// <summary>Shape of the merged matrix.</summary>
    public Shape Shape { get; }

    /// <summary>Dtype of the merged matrix.</summary>
    public DType DType { get; }

    /// <summary>Memory taken by the correction, on the device that holds it.</summary>
    public long SizeInBytes => Records?.SizeInBytes ?? Segments.Sum(static s => (long)s.Length);

    /// <summary>Number of elements that subtraction alone would leave with other bits.</summary>
    public long Elements => Records?.Elements ?? Counts.Sum();

    internal bool Transposed { get; }

    internal int Terms { get; }

    internal byte[][] Segments { get; }

    internal long[] Counts { get; }

    /// <summary>The correction of a matrix on a device; null on the CPU.</summary>
    internal MergeRecords? Records { get; }

    /// <summary>Frees the device's memory; the correction cannot be used any more.</summary>
    public void Dispose() => Records?.Dispose();
}

/// <summary>
/// A correction in device memory: for each tile of 64 × 128 elements a segment that begins at a multiple of 16 bytes. List:
/// the original elements, then their places in the tile (row · 128 + column) in 2 bytes each. Where that would be longer than
/// the tile: the tile's original elements, row by row. The form follows from the count. So a correction is never longer than
/// the matrix and 28 bytes a tile.
/// </summary>
internal sealed class MergeRecords(
    Device device, CudaDeviceVariable<byte> segments, CudaDeviceVariable<long> offsets, CudaDeviceVariable<int> counts, long elements) : IDisposable
{
    public Device Device => device;

    public CudaDeviceVariable<byte> Segments => segments;

    /// <summary>Where each tile's segment begins, and the end of the last one.</summary>
    public CudaDeviceVariable<long> Offsets => offsets;

    public CudaDeviceVariable<int> Counts => counts;

    public long Elements => elements;

    public long SizeInBytes => segments.Length + (sizeof(long) * offsets.Length) + (sizeof(int) * counts.Length);

    public void Dispose()
    {
        segments.Dispose();
        offsets.Dispose();
        counts.Dispose();
    }
}

/// <summary>Builds one segment in list form.</summary>
internal sealed class MergeSegmentWriter
{
    private byte[] _bytes = [MergeCorrection.List];
    private int _length = 1;

    public int Length => _length;

    public long Count { get; private set; }

    public void Add(long passedOver, ReadOnlySpan<byte> element)
    {
        if (_bytes.Length < _length + 10 + element.Length)
        {
            Array.Resize(ref _bytes, Math.Max(256, 2 * _bytes.Length));
        }

        while (passedOver >= 0x80)
        {
            _bytes[_length++] = (byte)(passedOver | 0x80);
            passedOver >>= 7;
        }

        _bytes[_length++] = (byte)passedOver;
        element.CopyTo(_bytes.AsSpan(_length));
        _length += element.Length;
        Count++;
    }

    public byte[] ToArray() => _bytes.AsSpan(0, _length).ToArray();
}

/// <summary>Reads one segment in list form.</summary>
internal ref struct MergeSegmentReader(ReadOnlySpan<byte> segment, int elementSize)
{
    private ReadOnlySpan<byte> _rest = segment[1..];

    /// <summary>Reads the next record; false at the end.</summary>
    public bool Next(out long passedOver, out ReadOnlySpan<byte> element)
    {
        passedOver = 0;
        element = default;
        if (_rest.IsEmpty)
        {
            return false;
        }

        int shift = 0;
        int used = 0;
        byte unit;
        do
        {
            unit = _rest[used++];
            passedOver |= (long)(unit & 0x7F) << shift;
            shift += 7;
        }
        while (unit >= 0x80);

        element = _rest.Slice(used, elementSize);
        _rest = _rest[(used + elementSize)..];
        return true;
    }
}
