using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// Causal attention with grouped key/value heads: o = softmax(scale·q·kᵀ)·v, where query i of row b sees the key slots
    /// keyStart[b,i] … i. The heads of a token lie side by side in its row: q and o [B·T, H·D], k and v [B·T, Hkv·D]; keyStart
    /// I32 [B,T]. Sources: Dao et al., FlashAttention; Ainslie et al., GQA. Backward recomputes P from the saved log-sum-exp:
    /// dV = Pᵀ·dO, dP = dO·Vᵀ, dS = P∘(dP − rowsum(dO∘O)), dQ = scale·dS·K, dK = scale·dSᵀ·Q.
    /// </summary>
    public static Variable Attention(
        this Tape tape, Variable q, Variable k, Variable v, int heads, int keyHeads, Tensor keyStart, float scale, int border = 0)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(q);
        ArgumentNullException.ThrowIfNull(k);
        ArgumentNullException.ThrowIfNull(v);
        var shape = new AttentionShape(heads, keyHeads, q.Value.Shape[1] / heads, keyStart);
        using Tensor queries = shape.Heads(q.Value, 0, heads);
        using Tensor keys = shape.Heads(k.Value, 0, keyHeads);
        using Tensor values = shape.Heads(v.Value, 0, keyHeads);
        return Attend(tape, shape, queries, keys, values, scale, border, [q, k, v], null);
    }

    /// <summary>
    /// The same for one fused projection [B·T, (H + 2·Hkv)·D] whose heads are those of q, then k, then v. Nothing is copied: the
    /// kernels read the heads where they lie and write their gradients into one tensor.
    /// </summary>
    /// <param name="tape">Records, or not.</param>
    /// <param name="fused">The projection; used up where there is a <paramref name="rotation"/>, which turns q and k in place.</param>
    /// <param name="heads">H.</param>
    /// <param name="keyHeads">Hkv.</param>
    /// <param name="keyStart">As above.</param>
    /// <param name="scale">As above.</param>
    /// <param name="border">Of the result (<see cref="Tensor.Border"/>).</param>
    /// <param name="rotation">
    /// The positions' angles, by which q and k are turned first, as <see cref="Rope"/> does; backward turns dq and dk back.
    /// </param>
    public static Variable Attention(
        this Tape tape, Variable fused, int heads, int keyHeads, Tensor keyStart, float scale, int border = 0, Rotation? rotation = null)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(fused);
        var shape = new AttentionShape(heads, keyHeads, fused.Value.Shape[1] / (heads + (2 * keyHeads)), keyStart);
        using Tensor queries = shape.Heads(fused.Value, 0, heads);
        using Tensor keys = shape.Heads(fused.Value, heads, keyHeads);
        using Tensor values = shape.Heads(fused.Value, heads + keyHeads, keyHeads);
        if (rotation is { } angles)
        {
            using Tensor both = shape.Heads(fused.Value, 0, heads + keyHeads);
            angles.Apply(both, inverse: false);
        }

        return Attend(tape, shape, queries, keys, values, scale, border, [fused], rotation);
    }

    private static Variable Attend(
        Tape tape, AttentionShape shape, Tensor q, Tensor k, Tensor v, float scale, int border, Variable[] sources, Rotation? rotation)
    {
        bool needed = sources.Length == 1 ? tape.Needs(sources[0]) : tape.Needs(sources[0], sources[1], sources[2]);
        using var made = new Tentative();
        Tensor o = made.Add(Tensor.EmptyBordered([shape.Batch * shape.Length, shape.HeadCount * shape.Width], border, q.DType, q.Device));
        Tensor? lse = needed ? made.Add(Tensor.Empty([shape.Batch, shape.HeadCount, shape.Length], StatisticsOf(q), q.Device)) : null;
        using (Tensor result = shape.Heads(o, 0, shape.HeadCount))
        {
            Kernels.Attention.Forward(q, k, v, shape.KeyStart, 0, scale, result, lse);
        }

        made.Keep();
        return needed ? tape.Record(o, new AttentionNode(sources, shape, q, k, v, o, lse!, scale, rotation)) : Tape.Constant(o);
    }

    // How heads lie in rows of tokens; keyStart has the extents of the batch.
    private readonly record struct AttentionShape(int HeadCount, int KeyHeads, int Width, Tensor KeyStart)
    {
        public int Batch => KeyStart.Shape[0];

        public int Length => KeyStart.Shape[1];

        public Tensor Heads(Tensor rows, int first, int count) => rows.Heads(Batch, Length, first, count, Width);
    }

    private sealed class AttentionNode : Node
    {
        // q, k, v; or their fused projection alone.
        private readonly Variable[] _sources;
        private readonly AttentionShape _shape;
        private readonly Tensor _q;
        private readonly Tensor _k;
        private readonly Tensor _v;
        private readonly Tensor _o;
        private readonly Tensor _lse;
        private readonly float _scale;
        private readonly Rotation? _rotation;

        public AttentionNode(
            Variable[] sources, AttentionShape shape, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, float scale, Rotation? rotation)
        {
            _sources = sources;
            (_q, _k, _v, _o) = (Save(q), Save(k), Save(v), Save(o));
            _lse = Keep(lse);
            _shape = shape with { KeyStart = Save(shape.KeyStart) };
            _scale = scale;
            _rotation = rotation is { } r ? new Rotation(Save(r.Cos), Save(r.Sin), Save(r.Positions)) : null;
        }

        public override string Name => "attention";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient)
        {
            using var made = new Tentative();
            Tensor[] wholes = [.. _sources.Select(source => made.Add(source.NewGradient()))];
            bool fused = wholes.Length == 1;
            (int heads, int keyHeads) = (_shape.HeadCount, _shape.KeyHeads);
            using (Tensor dO = _shape.Heads(gradient, 0, heads))
            using (Tensor o = _shape.Heads(_o, 0, heads))
            using (Tensor dq = _shape.Heads(wholes[0], 0, heads))
            using (Tensor dk = fused ? _shape.Heads(wholes[0], heads, keyHeads) : _shape.Heads(wholes[1], 0, keyHeads))
            using (Tensor dv = fused ? _shape.Heads(wholes[0], heads + keyHeads, keyHeads) : _shape.Heads(wholes[2], 0, keyHeads))
            {
                Kernels.Attention.Backward(dO, _q, _k, _v, o, _lse, _shape.KeyStart, _scale, dq, dk, dv, _rotation);
            }

            made.Keep();
            for (int i = 0; i < wholes.Length; i++)
            {
                _sources[i].AccumulateGradient(wholes[i]);
            }
        }
    }
}
