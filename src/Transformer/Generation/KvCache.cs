using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>
/// Keys and values of the tokens so far, for each layer [batch, capacity, kvHeads, headDim]. Every row holds the same
/// number of tokens: shorter prompts are padded on the left, and <see cref="BatchContext"/> hides the padding.
/// </summary>
public sealed class KvCache : IDisposable
{
    private readonly Tensor[] _keys;
    private readonly Tensor[] _values;

    /// <summary>Makes an empty cache with room for <paramref name="capacity"/> tokens a row; <see cref="Reserve"/> makes more.</summary>
    public KvCache(int layers, int batch, int capacity, int keyValueHeads, int headDim, DType dtype, Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        Batch = batch;
        Capacity = capacity;
        _keys = new Tensor[layers];
        _values = new Tensor[layers];
        using var made = new Tentative();
        for (int i = 0; i < layers; i++)
        {
            _keys[i] = made.Add(Tensor.Empty([batch, capacity, keyValueHeads, headDim], dtype, device));
            _values[i] = made.Add(_keys[i].EmptyLike());
        }

        made.Keep();
    }

    /// <summary>Makes an empty cache of the shape that a model needs.</summary>
    public static KvCache For(DecoderModel model, int batch, int capacity)
    {
        ArgumentNullException.ThrowIfNull(model);
        ModelConfig config = model.Config;
        return new KvCache(
            config.LayerCount, batch, capacity, config.KeyValueHeadCount, config.HeadDim, model.DType, model.Device);
    }

    /// <summary>Rows held.</summary>
    public int Batch { get; private set; }

    /// <summary>Tokens a row can hold before it must grow.</summary>
    public int Capacity { get; private set; }

    /// <summary>Tokens held by every row (left padding included).</summary>
    public int Length { get; private set; }

    /// <summary>Bytes of keys and values.</summary>
    public long ByteLength => 2 * _keys.Sum(k => k.ByteLength);

    /// <summary>Makes room for <paramref name="tokens"/> tokens a row in all: doubles when it has to grow, up to <paramref name="most"/>.</summary>
    public void Reserve(int tokens, int most = int.MaxValue)
    {
        if (tokens <= Capacity)
        {
            return;
        }

        int capacity = (int)Math.Max(tokens, Math.Min(2L * Capacity, most));
        foreach (Device device in _keys.Select(k => k.Device).Distinct())
        {
            // Recorded steps refer to the old memory.
            device.InvalidateGraphs();
        }

        foreach (Tensor[] tensors in (Tensor[][])[_keys, _values])
        {
            for (int i = 0; i < tensors.Length; i++)
            {
                Tensor old = tensors[i];
                Tensor larger = Tensor.Empty([Batch, capacity, old.Shape[2], old.Shape[3]], old.DType, old.Device);
                CopyTokens(old, larger, 0, 0, Batch);
                tensors[i] = larger;
                old.Dispose();
            }
        }

        Capacity = capacity;
    }

    /// <summary>Drops all rows but these; they move together in their order.</summary>
    /// <param name="rows">Ascending indices in [0, <see cref="Batch"/>).</param>
    public void KeepRows(ReadOnlySpan<int> rows)
    {
        for (int i = 0; i < rows.Length; i++)
        {
            if (rows[i] >= Batch || rows[i] <= (i == 0 ? -1 : rows[i - 1]))
            {
                throw new ArgumentException($"row {rows[i]} at index {i}: rows must ascend and be under {Batch}", nameof(rows));
            }
        }

        foreach (Tensor tensor in _keys.Concat(_values))
        {
            // Rows only move towards the front, in ascending order: none is overwritten before it has moved.
            for (int i = 0; i < rows.Length;)
            {
                int run = 1;
                while (i + run < rows.Length && rows[i + run] == rows[i] + run)
                {
                    run++;
                }

                for (int r = i; rows[i] != i && r < i + run; r++)
                {
                    CopyTokens(tensor, tensor, rows[r], r, 1);
                }

                i += run;
            }
        }

        Batch = rows.Length;
    }

    /// <summary>Frees the cache.</summary>
    public void Dispose()
    {
        foreach (Tensor tensor in _keys.Concat(_values))
        {
            tensor.Dispose();
        }
    }

    /// <summary>Writes keys [batch, T, kvHeads, headDim] behind those held and returns a view of all of them.</summary>
    internal Tensor AppendKeys(int layer, Tensor keys) => Append(_keys[layer], keys);

    /// <summary>Writes values behind those held and returns a view of all of them.</summary>
    internal Tensor AppendValues(int layer, Tensor values) => Append(_values[layer], values);

    /// <summary>Writes keys [batch, T, kvHeads, headDim] to the slots from <paramref name="position"/> I32 [1] on and returns a view of the whole room.</summary>
    internal Tensor PutKeys(int layer, Tensor keys, Tensor position) => Put(_keys[layer], keys, position);

    /// <summary>Writes values to the slots from <paramref name="position"/> on and returns a view of the whole room.</summary>
    internal Tensor PutValues(int layer, Tensor values, Tensor position) => Put(_values[layer], values, position);

    /// <summary>Counts the tokens that all layers have appended.</summary>
    internal void Advance(int tokens) => Length += tokens;

    private Tensor Append(Tensor cache, Tensor entries)
    {
        int count = entries.Shape[1];
        if (entries.Shape[0] != Batch || Length + count > Capacity)
        {
            throw new InvalidOperationException(
                $"the cache has {Batch} rows of {Capacity} tokens, {Length} of them used; {entries.Shape[0]} rows of {count} more do not fit");
        }

        using Tensor live = cache.Slice(0, 0, Batch);
        using Tensor place = live.Slice(1, Length, count);
        Copy.Run(entries, place);
        return live.Slice(1, 0, Length + count);
    }

    private Tensor Put(Tensor cache, Tensor entries, Tensor position)
    {
        Tensor live = cache.Slice(0, 0, Batch);
        CacheAppend.Run(entries, live, position);
        return live;
    }

    private void CopyTokens(Tensor from, Tensor to, int fromRow, int toRow, int count)
    {
        using Tensor fromRows = from.Slice(0, fromRow, count);
        using Tensor toRows = to.Slice(0, toRow, count);
        using Tensor source = fromRows.Slice(1, 0, Length);
        using Tensor target = toRows.Slice(1, 0, Length);
        Copy.Run(source, target);
    }
}
