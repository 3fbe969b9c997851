using System.Diagnostics;
using System.Numerics;

namespace Engine.Tensors.Cuda;

/// <summary>
/// A caching allocator over device memory: takes large segments from the driver, cuts them into blocks, and joins free
/// neighbours again. All work of a device runs on one stream in order, so a block that is given back can be handed out
/// at once: whatever still uses it comes earlier in the stream.
/// </summary>
/// <remarks>Best fit within four size bins for each power of two. Not thread-safe: <see cref="CudaDevice"/> locks.</remarks>
/// <param name="allocate">The driver's allocator; 0 when it has no memory.</param>
/// <param name="free">Gives a segment back to the driver, which waits until nothing uses it.</param>
/// <param name="isExact">
/// Every block is a segment of its own, exactly as long as what was asked for, and goes back to the driver at once: memory
/// checkers see where each tensor ends and what was written since.
/// </param>
internal sealed class CudaPool(Func<long, nint> allocate, Action<nint> free, bool isExact = false)
{
    private const long Granule = 512;
    private const long Small = 1 << 20;
    private const long SmallSegment = 2 << 20;
    private const long Medium = 10 << 20;
    private const long MediumSegment = 20 << 20;
    private const int BinsPerOctave = 4;

    private readonly Block?[] _bins = new Block?[64 * BinsPerOctave];
    private readonly Dictionary<nint, Block> _used = [];
    private readonly Stack<Block> _spare = new();

    /// <summary>Bytes taken from the driver.</summary>
    public long ReservedBytes { get; private set; }

    /// <summary>Bytes handed out, rounded up to granules.</summary>
    public long UsedBytes { get; private set; }

    /// <summary>Hands out memory; 0 when the driver has none.</summary>
    public nint Rent(long byteLength)
    {
        long size = isExact ? Math.Max(1, byteLength) : Math.Max(Granule, (byteLength + Granule - 1) / Granule * Granule);
        Block? block = Find(size) ?? NewSegment(size);
        if (block is null)
        {
            return 0;
        }

        Remove(block);
        long rest = block.Size - size;

        // A remainder too small for its segment's kind would only fragment it.
        if (rest >= (block.Segment <= SmallSegment ? Granule : Small))
        {
            Block tail = Make(block.Pointer + (nint)size, rest, block.Segment);
            tail.Previous = block;
            tail.Next = block.Next;
            if (block.Next is not null)
            {
                block.Next.Previous = tail;
            }

            block.Next = tail;
            block.Size = size;
            Insert(tail);
        }

        _used.Add(block.Pointer, block);
        UsedBytes += block.Size;
        return block.Pointer;
    }

    /// <summary>Takes memory back; false when it is not this pool's.</summary>
    public bool Return(nint pointer)
    {
        if (!_used.Remove(pointer, out Block? block))
        {
            return false;
        }

        UsedBytes -= block.Size;
        if (block.Next is { IsFree: true } next)
        {
            Remove(next);
            Join(block, next);
        }

        if (block.Previous is { IsFree: true } previous)
        {
            Remove(previous);
            Join(previous, block);
            block = previous;
        }

        Insert(block);
        if (isExact)
        {
            Trim();
        }

        return true;
    }

    /// <summary>Gives segments that are free as a whole back to the driver; the stream has been waited for.</summary>
    public void Trim()
    {
        for (int bin = 0; bin < _bins.Length; bin++)
        {
            for (Block? block = _bins[bin]; block is not null;)
            {
                Block? next = block.NextInBin;
                if (block is { Previous: null, Next: null })
                {
                    Remove(block);
                    free(block.Pointer);
                    ReservedBytes -= block.Segment;
                    _spare.Push(block);
                }

                block = next;
            }
        }
    }

    private static int BinOf(long size)
    {
        int octave = BitOperations.Log2((ulong)size);
        return (octave * BinsPerOctave) + (int)((size >> (octave - 2)) & (BinsPerOctave - 1));
    }

    // Large requests share segments with other large ones only, and small with small: a small block that lives long
    // would keep a large segment from ever being whole again.
    private Block? Find(long size)
    {
        for (int bin = BinOf(size); bin < _bins.Length; bin++)
        {
            Block? best = null;
            for (Block? block = _bins[bin]; block is not null; block = block.NextInBin)
            {
                bool fits = block.Size >= size && (size <= Small) == (block.Segment == SmallSegment);
                if (fits && (best is null || block.Size < best.Size || (block.Size == best.Size && block.Pointer < best.Pointer)))
                {
                    best = block;
                }
            }

            if (best is not null)
            {
                return best;
            }
        }

        return null;
    }

    private Block? NewSegment(long size)
    {
        long segment = isExact ? size
            : size <= Small ? SmallSegment
            : size <= Medium ? MediumSegment
            : (size + SmallSegment - 1) / SmallSegment * SmallSegment;
        nint pointer = allocate(segment);
        if (pointer == 0)
        {
            return null;
        }

        ReservedBytes += segment;
        Block block = Make(pointer, segment, segment);
        Insert(block);
        return block;
    }

    private Block Make(nint pointer, long size, long segment)
    {
        Block block = _spare.TryPop(out Block? spare) ? spare : new Block();
        block.Pointer = pointer;
        block.Size = size;
        block.Segment = segment;
        block.Previous = block.Next = null;
        return block;
    }

    private void Join(Block left, Block right)
    {
        left.Size += right.Size;
        left.Next = right.Next;
        if (right.Next is not null)
        {
            right.Next.Previous = left;
        }

        _spare.Push(right);
    }

    private void Insert(Block block)
    {
        ref Block? head = ref _bins[BinOf(block.Size)];
        block.IsFree = true;
        block.PreviousInBin = null;
        block.NextInBin = head;
        if (head is not null)
        {
            head.PreviousInBin = block;
        }

        head = block;
    }

    private void Remove(Block block)
    {
        Debug.Assert(block.IsFree, "only free blocks are in bins");
        if (block.PreviousInBin is null)
        {
            _bins[BinOf(block.Size)] = block.NextInBin;
        }
        else
        {
            block.PreviousInBin.NextInBin = block.NextInBin;
        }

        if (block.NextInBin is not null)
        {
            block.NextInBin.PreviousInBin = block.PreviousInBin;
        }

        block.PreviousInBin = block.NextInBin = null;
        block.IsFree = false;
    }

    private sealed class Block
    {
        public nint Pointer;
        public long Size;
        public long Segment;
        public bool IsFree;
        public Block? Previous;
        public Block? Next;
        public Block? PreviousInBin;
        public Block? NextInBin;
    }
}
