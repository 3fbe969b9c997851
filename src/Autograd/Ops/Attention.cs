using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// Causal attention with grouped key/value heads: o = softmax(scale·q·kᵀ)·v, where query i of row b sees the key slots
    /// keyStart[b,i] … i. Shapes: q, o [B,T,H,D], k, v [B,T,Hkv,D], keyStart I32 [B,T]. Sources: Dao et al., FlashAttention;
    /// Ainslie et al., GQA. Backward recomputes P from the saved log-sum-exp: dV = Pᵀ·dO, dP = dO·Vᵀ,
    /// dS = P∘(dP − rowsum(dO∘O)), dQ = scale·dS·K, dK = scale·dSᵀ·Q.
    /// </summary>
    public static Variable Attention(this Tape tape, Variable q, Variable k, Variable v, Tensor keyStart, float scale)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(q);
        ArgumentNullException.ThrowIfNull(k);
        ArgumentNullException.ThrowIfNull(v);
        using var made = new Tentative();
        Tensor o = made.Add(q.Value.EmptyLike());
        if (!tape.Needs(q, k, v))
        {
            Kernels.Attention.Forward(q.Value, k.Value, v.Value, keyStart, 0, scale, o, null);
            made.Keep();
            return Tape.Constant(o);
        }

        Shape shape = q.Value.Shape;
        Tensor lse = made.Add(Tensor.Empty([shape[0], shape[2], shape[1]], StatisticsOf(q.Value), q.Value.Device));
        Kernels.Attention.Forward(q.Value, k.Value, v.Value, keyStart, 0, scale, o, lse);
        made.Keep();
        return tape.Record(o, new SeparateAttentionNode(q, k, v, o, lse, keyStart, scale));
    }

    /// <summary>
    /// The same for one fused projection [B,T,H+2·Hkv,D] whose heads are those of q, then k, then v. Nothing is copied: the
    /// kernels read the heads where they lie and write their gradients into one tensor.
    /// </summary>
    public static Variable Attention(this Tape tape, Variable fused, int heads, int keyHeads, Tensor keyStart, float scale)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(fused);
        bool needed = tape.Needs(fused);
        Shape shape = fused.Value.Shape;
        using var made = new Tentative();
        Tensor o = made.Add(Tensor.Empty([shape[0], shape[1], heads, shape[3]], fused.Value.DType, fused.Value.Device));
        Tensor? lse = needed ? made.Add(Tensor.Empty([shape[0], heads, shape[1]], StatisticsOf(fused.Value), fused.Value.Device)) : null;
        using Tensor q = fused.Value.Slice(2, 0, heads);
        using Tensor k = fused.Value.Slice(2, heads, keyHeads);
        using Tensor v = fused.Value.Slice(2, heads + keyHeads, keyHeads);
        Kernels.Attention.Forward(q, k, v, keyStart, 0, scale, o, lse);
        made.Keep();
        return needed ? tape.Record(o, new FusedAttentionNode(fused, q, k, v, o, lse!, keyStart, scale)) : Tape.Constant(o);
    }

    private abstract class AttentionNode : Node
    {
        private readonly Tensor _o;
        private readonly Tensor _lse;
        private readonly Tensor _keyStart;
        private readonly float _scale;

        protected AttentionNode(Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, Tensor keyStart, float scale)
        {
            (Q, K, V, _o) = (Save(q), Save(k), Save(v), Save(o));
            _lse = Keep(lse);
            _keyStart = Save(keyStart);
            _scale = scale;
        }

        public override string Name => "attention";

        protected Tensor Q { get; }

        protected Tensor K { get; }

        protected Tensor V { get; }

        protected void Run(Tensor gradient, Tensor dq, Tensor dk, Tensor dv) =>
            Kernels.Attention.Backward(gradient, Q, K, V, _o, _lse, _keyStart, _scale, dq, dk, dv);
    }

    private sealed class SeparateAttentionNode(
        Variable q, Variable k, Variable v, Tensor o, Tensor lse, Tensor keyStart, float scale)
        : AttentionNode(q.Value, k.Value, v.Value, o, lse, keyStart, scale)
    {
        protected internal override void Backward(Tensor gradient)
        {
            using var made = new Tentative();
            Tensor dq = made.Add(Q.EmptyLike());
            Tensor dk = made.Add(K.EmptyLike());
            Tensor dv = made.Add(V.EmptyLike());
            Run(gradient, dq, dk, dv);
            made.Keep();
            q.AccumulateGradient(dq);
            k.AccumulateGradient(dk);
            v.AccumulateGradient(dv);
        }
    }

    private sealed class FusedAttentionNode(
        Variable fused, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, Tensor keyStart, float scale)
        : AttentionNode(q, k, v, o, lse, keyStart, scale)
    {
        private readonly Shape _shape = fused.Value.Shape;

        protected internal override void Backward(Tensor gradient)
        {
            using var made = new Tentative();
            Tensor whole = made.Add(Tensor.Empty(_shape, gradient.DType, gradient.Device));
            (int heads, int keyHeads) = (Q.Shape[2], K.Shape[2]);
            using (Tensor dq = whole.Slice(2, 0, heads))
            using (Tensor dk = whole.Slice(2, heads, keyHeads))
            using (Tensor dv = whole.Slice(2, heads + keyHeads, keyHeads))
            {
                Run(gradient, dq, dk, dv);
            }

            made.Keep();
            fused.AccumulateGradient(whole);
        }
    }
}
