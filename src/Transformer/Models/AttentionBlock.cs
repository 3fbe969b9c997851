using Engine.Autograd;
using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>
/// Self-attention of one layer: projections (separate q, k, v, or GPT-2's fused c_attn), optional per-head norms of q and k
/// (Qwen3), rotary positions, grouped key/value heads, output projection.
/// </summary>
internal sealed class AttentionBlock
{
    public required int Layer { get; init; }

    public required int Heads { get; init; }

    public required int KeyValueHeads { get; init; }

    public required int HeadDim { get; init; }

    /// <summary>Keys each token sees, its own included; 0 for all.</summary>
    public required int Window { get; init; }

    /// <summary>Factor on q·k.</summary>
    public required float Scale { get; init; }

    /// <summary>q, k, v; or one fused projection [R, 3·D].</summary>
    public required LinearModule[] Projections { get; init; }

    public required LinearModule Output { get; init; }

    public NormModule? QueryNorm { get; init; }

    public NormModule? KeyNorm { get; init; }

    public RotaryTable? Rotary { get; init; }

    public Variable Forward(Tape tape, BatchContext batch, Variable x)
    {
        using Device.RangeScope range = batch.Device.Range("attention");
        using Variable o = Projections.Length == 1 ? AttendFused(tape, batch, x) : AttendSeparate(tape, batch, x);
        using Variable rows = tape.Reshape(o, batch.Batch * batch.Length, Heads * HeadDim);
        return Output.Forward(tape, batch, rows);
    }

    private Variable AttendFused(Tape tape, BatchContext batch, Variable x)
    {
        using Variable fused = Shaped(tape, batch, Projections[0].Forward(tape, batch, x), Heads + (2 * KeyValueHeads), null);
        if (batch.Cache is null)
        {
            return tape.Attention(fused, Heads, KeyValueHeads, batch.KeyStart(Window), Scale);
        }

        using Tensor q = fused.Value.Slice(2, 0, Heads);
        using Tensor k = fused.Value.Slice(2, Heads, KeyValueHeads);
        using Tensor v = fused.Value.Slice(2, Heads + KeyValueHeads, KeyValueHeads);
        return AttendCached(batch, batch.Cache, q, k, v);
    }

    private Variable AttendSeparate(Tape tape, BatchContext batch, Variable x)
    {
        using Variable q = Rotated(tape, batch, Shaped(tape, batch, Projections[0].Forward(tape, batch, x), Heads, QueryNorm));
        using Variable k = Rotated(tape, batch, Shaped(tape, batch, Projections[1].Forward(tape, batch, x), KeyValueHeads, KeyNorm));
        using Variable v = Shaped(tape, batch, Projections[2].Forward(tape, batch, x), KeyValueHeads, null);
        return batch.Cache is null
            ? tape.Attention(q, k, v, batch.KeyStart(Window), Scale)
            : AttendCached(batch, batch.Cache, q.Value, k.Value, v.Value);
    }

    // [R, heads·D] → [B,T,heads,D], each head normalised on the way where the model has such norms. Uses x up.
    private Variable Shaped(Tape tape, BatchContext batch, Variable x, int heads, NormModule? norm)
    {
        using (x)
        {
            if (norm is null)
            {
                return tape.Reshape(x, batch.Batch, batch.Length, heads, HeadDim);
            }

            using Variable perHead = tape.Reshape(x, batch.Batch * batch.Length * heads, HeadDim);
            using Variable normed = norm.Forward(tape, perHead);
            return tape.Reshape(normed, batch.Batch, batch.Length, heads, HeadDim);
        }
    }

    private Variable Rotated(Tape tape, BatchContext batch, Variable x)
    {
        if (Rotary is null)
        {
            return x;
        }

        using (x)
        {
            return tape.Rope(x, Rotary.Cos(x.Value), Rotary.Sin(x.Value), batch.Positions);
        }
    }

    private Variable AttendCached(BatchContext batch, KvCache cache, Tensor q, Tensor k, Tensor v)
    {
        Tensor o = q.EmptyLike();
        if (batch.CachePosition is { } position)
        {
            using Tensor allKeys = cache.PutKeys(Layer, k, position);
            using Tensor allValues = cache.PutValues(Layer, v, position);
            Attention.Decode(q, allKeys, allValues, batch.KeyStart(Window), batch.CacheLength!, Scale, o);
            return Tape.Constant(o);
        }

        using Tensor keys = cache.AppendKeys(Layer, k);
        using Tensor values = cache.AppendValues(Layer, v);
        Attention.Forward(q, keys, values, batch.KeyStart(Window), cache.Length, Scale, o, null);
        return Tape.Constant(o);
    }
}
