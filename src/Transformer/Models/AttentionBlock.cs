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
        (Variable q, Variable k, Variable v) = Project(tape, batch, x);
        using Variable o = Attend(tape, batch, q, k, v);
        q.Dispose();
        k.Dispose();
        v.Dispose();
        using Variable rows = tape.Reshape(o, batch.Batch * batch.Length, Heads * HeadDim);
        return Output.Forward(tape, batch, rows);
    }

    private (Variable Q, Variable K, Variable V) Project(Tape tape, BatchContext batch, Variable x)
    {
        if (Projections.Length == 1)
        {
            int width = Heads * HeadDim;
            using Variable fused = Projections[0].Forward(tape, batch, x);
            return (
                Shaped(tape, batch, tape.SliceColumns(fused, 0, width), Heads, null),
                Shaped(tape, batch, tape.SliceColumns(fused, width, width), KeyValueHeads, null),
                Shaped(tape, batch, tape.SliceColumns(fused, 2 * width, width), KeyValueHeads, null));
        }

        return (
            Rotated(tape, batch, Shaped(tape, batch, Projections[0].Forward(tape, batch, x), Heads, QueryNorm)),
            Rotated(tape, batch, Shaped(tape, batch, Projections[1].Forward(tape, batch, x), KeyValueHeads, KeyNorm)),
            Shaped(tape, batch, Projections[2].Forward(tape, batch, x), KeyValueHeads, null));
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

    private Variable Attend(Tape tape, BatchContext batch, Variable q, Variable k, Variable v)
    {
        if (batch.Cache is not { } cache)
        {
            return tape.Attention(q, k, v, batch.KeyStart(Window), Scale);
        }

        if (batch.CachePosition is { } position)
        {
            using Tensor allKeys = cache.PutKeys(Layer, k.Value, position);
            using Tensor allValues = cache.PutValues(Layer, v.Value, position);
            Tensor decoded = q.Value.EmptyLike();
            Attention.Decode(q.Value, allKeys, allValues, batch.KeyStart(Window), batch.CacheLength!, Scale, decoded);
            return Tape.Constant(decoded);
        }

        using Tensor keys = cache.AppendKeys(Layer, k.Value);
        using Tensor values = cache.AppendValues(Layer, v.Value);
        Tensor o = q.Value.EmptyLike();
        Attention.Forward(q.Value, keys, values, batch.KeyStart(Window), cache.Length, Scale, o, null);
        return Tape.Constant(o);
    }
}
