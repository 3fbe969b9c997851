using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// What <see cref="Merge.Undo(Tensor, ReadOnlySpan{MergeTerm}, bool, MergeCorrection)"/> needs besides the adapters: the
/// original bits of every element that subtracting the same Δ would not bring back.
/// </summary>
/// <remarks>
/// Each block of rows has a segment of bytes. Its first byte tells the form. List: for each recorded element, in the
/// order the merge visits them, the number of elements passed over since the last one (LEB128) and the original element,
/// little-endian. Copy: all original elements of the block, chosen where the list would be longer. So a correction is
/// never longer than the matrix and one byte a block.
/// </remarks>
public sealed class MergeCorrection
{
    internal const byte List = 0;
    internal const byte Copy = 1;

    internal MergeCorrection(Shape shape, DType dtype, bool transposed, int terms, int blocks)
    {
        (Shape, DType, Transposed, Terms) = (shape, dtype, transposed, terms);
        Segments = new byte[blocks][];
        Counts = new long[blocks];
    }

    /// <summary>Shape of the merged matrix.</summary>
    public Shape Shape { get; }

    /// <summary>Dtype of the merged matrix.</summary>
    public DType DType { get; }

    /// <summary>Memory taken by the correction.</summary>
    public long SizeInBytes => Segments.Sum(static s => (long)s.Length);

    /// <summary>Number of elements that subtraction alone would leave with other bits.</summary>
    public long Elements => Counts.Sum();

    internal bool Transposed { get; }

    internal int Terms { get; }

    internal byte[][] Segments { get; }

    internal long[] Counts { get; }
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
