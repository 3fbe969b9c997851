namespace Engine.Kernels;

/// <summary>
/// A matrix's correction on the CPU: a segment of bytes for each block of rows, null where the block is not merged. A segment's
/// first byte tells the form. List: for each recorded element, in the order the merge visits them, the number of elements passed
/// over since the last one (LEB128) and the original element, little-endian. Copy: all original elements of the block, chosen
/// where the list would be longer.
/// </summary>
internal sealed class MergeSegments(int blocks)
{
    public const byte List = 0;
    public const byte Copy = 1;

    public byte[]?[] Blocks { get; } = new byte[]?[blocks];

    public long[] Counts { get; } = new long[blocks];

    public long SizeInBytes => Blocks.Sum(static s => (long)(s?.Length ?? 0));

    public long Elements => Counts.Sum();
}

/// <summary>Builds one segment in list form, in memory that is lent for it; counts on when the memory does not suffice.</summary>
internal unsafe struct MergeSegmentWriter
{
    private const int LongestGap = 10;

    private readonly byte* _bytes;
    private readonly long _capacity;
    private long _length;

    public MergeSegmentWriter(byte* bytes, long capacity)
    {
        _bytes = bytes;
        _capacity = capacity;
        Append(MergeSegments.List);
    }

    public long Count { get; private set; }

    /// <summary>Whether the list is complete; else it is longer than the memory.</summary>
    public readonly bool Fits => _length <= _capacity;

    public void Add(long passedOver, ReadOnlySpan<byte> element)
    {
        Count++;
        if (_length + LongestGap + element.Length > _capacity)
        {
            _length = long.MaxValue - LongestGap - element.Length;
            return;
        }

        while (passedOver >= 0x80)
        {
            Append((byte)(passedOver | 0x80));
            passedOver >>= 7;
        }

        Append((byte)passedOver);
        element.CopyTo(new Span<byte>(_bytes + _length, element.Length));
        _length += element.Length;
    }

    public readonly byte[] ToArray() => new ReadOnlySpan<byte>(_bytes, checked((int)_length)).ToArray();

    private void Append(byte unit) => _bytes[_length++] = unit;
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
