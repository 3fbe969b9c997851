namespace Engine.Lora.Data;

/// <summary>A place in the data: the epoch, and the batch within it; both from 0.</summary>
/// <param name="Epoch">Passes over the data that are complete.</param>
/// <param name="Batch">Batches of this epoch that are complete.</param>
public readonly record struct DataPosition(int Epoch, int Batch);

/// <summary>
/// Which rows form which batch. The order of an epoch follows from seed and epoch alone (a Fisher–Yates shuffle by a
/// counter-based generator), so that a run resumed at a <see cref="DataPosition"/> sees exactly the rows that an
/// uninterrupted one sees. The last batch of an epoch may be smaller.
/// </summary>
public sealed class BatchPlan
{
    private readonly int _count;
    private readonly int _batchSize;
    private readonly ulong _seed;
    private readonly bool _shuffle;
    private int _cachedEpoch = -1;
    private int[] _cachedOrder = [];

    /// <summary>Plans batches.</summary>
    /// <param name="count">Number of rows.</param>
    /// <param name="batchSize">Rows in a batch.</param>
    /// <param name="seed">Seed of the shuffle.</param>
    /// <param name="shuffle">False to take the rows in their own order in every epoch.</param>
    public BatchPlan(int count, int batchSize, ulong seed, bool shuffle = true)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batchSize);
        _count = count;
        _batchSize = batchSize;
        _seed = seed;
        _shuffle = shuffle;
    }

    /// <summary>Number of batches in an epoch.</summary>
    public int BatchesPerEpoch => (int)(((long)_count + _batchSize - 1) / _batchSize);

    /// <summary>The position before batch <paramref name="index"/> of the whole run, from 0.</summary>
    public DataPosition PositionOf(long index) => new(checked((int)(index / BatchesPerEpoch)), (int)(index % BatchesPerEpoch));

    /// <summary>The position after a batch.</summary>
    public DataPosition After(DataPosition position) =>
        position.Batch + 1 < BatchesPerEpoch ? position with { Batch = position.Batch + 1 } : new(position.Epoch + 1, 0);

    /// <summary>The rows of the batch at a position.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The position is not one of the plan's.</exception>
    public ReadOnlySpan<int> Rows(DataPosition position)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(position.Epoch, nameof(position));
        ArgumentOutOfRangeException.ThrowIfNegative(position.Batch, nameof(position));
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(position.Batch, BatchesPerEpoch, nameof(position));
        if (_cachedEpoch != position.Epoch)
        {
            _cachedOrder = Order(position.Epoch);
            _cachedEpoch = position.Epoch;
        }

        int start = position.Batch * _batchSize;
        return _cachedOrder.AsSpan(start, Math.Min(_batchSize, _count - start));
    }

    private int[] Order(int epoch)
    {
        int[] order = [.. Enumerable.Range(0, _count)];
        if (_shuffle)
        {
            var random = new CounterRandom(_seed, (ulong)epoch);
            for (int i = _count - 1; i > 0; i--)
            {
                int j = random.Below(i + 1);
                (order[i], order[j]) = (order[j], order[i]);
            }
        }

        return order;
    }
}
