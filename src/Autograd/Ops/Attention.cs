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
        return tape.Record(o, new AttentionNode(q, k, v, o, lse, keyStart, scale));
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

    private sealed class FusedAttentionNode : Node
    {
        private readonly Variable _fused;
        private readonly Shape _shape;
        private readonly Tensor[] _qkvo;
        private readonly Tensor _lse;
        private readonly Tensor _keyStart;
        private readonly float _scale;

        public FusedAttentionNode(Variable fused, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, Tensor keyStart, float scale)
        {
            _fused = fused;
            _shape = fused.Value.Shape;
            _qkvo = [Save(q), Save(k), Save(v), Save(o)];
            _lse = Keep(lse);
            _keyStart = Save(keyStart);
            _scale = scale;
        }

        public override string Name => "attention";

        protected internal override void Backward(Tensor gradient)
        {
            using var made = new Tentative();
            Tensor fused = made.Add(Tensor.Empty(_shape, gradient.DType, gradient.Device));
            (int heads, int keyHeads) = (_qkvo[0].Shape[2], _qkvo[1].Shape[2]);
            using (Tensor dq = fused.Slice(2, 0, heads))
            using (Tensor dk = fused.Slice(2, heads, keyHeads))
            using (Tensor dv = fused.Slice(2, heads + keyHeads, keyHeads))
            {
                Kernels.Attention.Backward(
                    gradient, _qkvo[0], _qkvo[1], _qkvo[2], _qkvo[3], _lse, _keyStart, _scale, dq, dk, dv);
            }

            made.Keep();
            _fused.AccumulateGradient(fused);
        }
    }

    private sealed class AttentionNode : Node
    {
        private readonly Variable _q;
        private readonly Variable _k;
        private readonly Variable _v;
        private readonly Tensor[] _qkvo;
        private readonly Tensor _lse;
        private readonly Tensor _keyStart;
        private readonly float _scale;

        public AttentionNode(Variable q, Variable k, Variable v, Tensor o, Tensor lse, Tensor keyStart, float scale)
        {
            _q = q;
            _k = k;
            _v = v;
            _qkvo = [Save(q.Value), Save(k.Value), Save(v.Value), Save(o)];
            _lse = Keep(lse);
            _keyStart = Save(keyStart);
            _scale = scale;
        }

        public override string Name => "attention";

        protected internal override void Backward(Tensor gradient)
        {
            using var made = new Tentative();
            Tensor dq = made.Add(_qkvo[0].EmptyLike());
            Tensor dk = made.Add(_qkvo[1].EmptyLike());
            Tensor dv = made.Add(_qkvo[2].EmptyLike());
            Kernels.Attention.Backward(
                gradient, _qkvo[0], _qkvo[1], _qkvo[2], _qkvo[3], _lse, _keyStart, _scale, dq, dk, dv);
            made.Keep();
            _q.AccumulateGradient(dq);
            _k.AccumulateGradient(dk);
            _v.AccumulateGradient(dv);
        }
    }
}
