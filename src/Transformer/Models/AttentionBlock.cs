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

    /// <summary>q, k and v, or one fused projection: rows [(H + 2·Hkv)·D] either way.</summary>
    public required LinearStack Projections { get; init; }

    public required LinearStack Output { get; init; }

    public NormModule? QueryNorm { get; init; }

    public NormModule? KeyNorm { get; init; }

    public RotaryTable? Rotary { get; init; }

    public Variable Forward(Tape tape, BatchContext batch, Variable x)
    {
        using Device.RangeScope range = batch.Device.Range("attention");
        using Variable fused = Projections.Forward(tape, batch, x);
        using Variable o = QueryNorm is null && KeyNorm is null ? AttendFused(tape, batch, fused) : AttendSeparate(tape, batch, fused);
        return Output.Forward(tape, batch, o);
    }

    private Variable AttendFused(Tape tape, BatchContext batch, Variable fused)
    {
        if (batch.Cache is null)
        {
            Rotation? rotation = Rotary is null ? null : new Rotation(Rotary.Cos(fused.Value), Rotary.Sin(fused.Value), batch.Positions);
            return tape.Attention(fused, Heads, KeyValueHeads, batch.KeyStart(Window), Scale, Output.Border, rotation);
        }

        using Variable rotated = Rotated(tape, batch, fused, Heads + KeyValueHeads);
        return AttendCached(
            batch,
            batch.Cache,
            HeadsOf(batch, rotated, 0, Heads),
            HeadsOf(batch, rotated, Heads, KeyValueHeads),
            HeadsOf(batch, rotated, Heads + KeyValueHeads, KeyValueHeads));
    }

    // Where q and k have norms of their own they leave the fused rows.
    private Variable AttendSeparate(Tape tape, BatchContext batch, Variable fused)
    {
        using Variable q = Normed(tape, batch, fused, 0, Heads, QueryNorm);
        using Variable k = Normed(tape, batch, fused, Heads, KeyValueHeads, KeyNorm);
        using Variable v = tape.Columns(fused, (Heads + KeyValueHeads) * HeadDim, KeyValueHeads * HeadDim);
        return batch.Cache is null
            ? tape.Attention(q, k, v, Heads, KeyValueHeads, batch.KeyStart(Window), Scale, Output.Border)
            : AttendCached(
                batch, batch.Cache, HeadsOf(batch, q, 0, Heads), HeadsOf(batch, k, 0, KeyValueHeads), HeadsOf(batch, v, 0, KeyValueHeads));
    }

    // Some heads' columns as rows of their own, each head normalised and rotated.
    private Variable Normed(Tape tape, BatchContext batch, Variable fused, int first, int heads, NormModule? norm)
    {
        Variable rows = tape.Columns(fused, first * HeadDim, heads * HeadDim);
        if (norm is not null)
        {
            using Variable plain = rows;
            using Variable perHead = tape.Reshape(plain, batch.Batch * batch.Length * heads, HeadDim);
            using Variable normed = norm.Forward(tape, perHead);
            rows = tape.Reshape(normed, batch.Batch * batch.Length, heads * HeadDim);
        }

        using (rows)
        {
            return Rotated(tape, batch, rows, heads);
        }
    }

    private Variable Rotated(Tape tape, BatchContext batch, Variable x, int heads) => Rotary is null
        ? tape.Same(x)
        : tape.Rope(x, heads, HeadDim, Rotary.Cos(x.Value), Rotary.Sin(x.Value), batch.Positions);

    private Tensor HeadsOf(BatchContext batch, Variable rows, int first, int heads) =>
        rows.Value.Heads(batch.Batch, batch.Length, first, heads, HeadDim);

    // Takes q, k and v over, [B,T,heads,D].
    private Variable AttendCached(BatchContext batch, KvCache cache, Tensor q, Tensor k, Tensor v)
    {
        using Tensor queries = q;
        using Tensor newKeys = k;
        using Tensor newValues = v;
        using var made = new Tentative();
        Tensor o = made.Add(Tensor.EmptyBordered([batch.Batch * batch.Length, Heads * HeadDim], Output.Border, q.DType, q.Device));
        using Tensor result = o.Heads(batch.Batch, batch.Length, 0, Heads, HeadDim);
        if (batch.CachePosition is { } position)
        {
            using Tensor allKeys = cache.PutKeys(Layer, newKeys, position);
            using Tensor allValues = cache.PutValues(Layer, newValues, position);
            Attention.Decode(queries, allKeys, allValues, batch.KeyStart(Window), batch.CacheLength!, Scale, result);
            made.Keep();
            return Tape.Constant(o);
        }

        using Tensor keys = cache.AppendKeys(Layer, newKeys);
        using Tensor values = cache.AppendValues(Layer, newValues);
        Attention.Forward(queries, keys, values, batch.KeyStart(Window), cache.Length, Scale, result, null);
        made.Keep();
        return Tape.Constant(o);
    }
}
