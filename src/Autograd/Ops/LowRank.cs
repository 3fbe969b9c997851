using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// y ← y + s·(x·Aᵀ)·Bᵀ, in place in <paramref name="y"/>, which is used up (the result takes its tensor over).
    /// Shapes: x [R,K], A [r,K], B [N,r], y [R,N]. Source: Hu et al., LoRA, §4.1.
    /// Backward with S = s·x·Aᵀ saved and dS = s·dY·B: dB += dYᵀ·S, dA += dSᵀ·x, dX += dS·A, dY passes through.
    /// </summary>
    public static Variable LowRank(this Tape tape, Variable y, Variable x, Variable a, Variable b, float scale)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(y);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        bool needed = tape.Needs(x, a, b) || tape.Needs(y);
        Tensor? s = needed ? Tensor.Empty([x.Value.Shape[0], a.Value.Shape[0]], MatMul.OperandType(x.Value), x.Value.Device) : null;
        Tensor result = y.Value.Share();
        Kernels.LowRank.Forward(x.Value, a.Value, b.Value, scale, result, s);
        return needed ? tape.Record(result, new LowRankNode(y, x, a, b, s!, scale)) : Tape.Constant(result);
    }

    /// <summary>
    /// The same with a different adapter for each group of rows, in one call: y[g] ← y[g] + s_g·(x[g]·A_gᵀ)·B_gᵀ.
    /// Rows in no group keep y. Inference only.
    /// </summary>
    public static Variable LowRankGrouped(this Tape tape, Variable y, Variable x, ReadOnlySpan<RowGroup> groups)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(y);
        ArgumentNullException.ThrowIfNull(x);
        if (tape.IsRecording)
        {
            throw new InvalidOperationException("batches that mix adapters run forward only; record no tape for them");
        }

        Tensor result = y.Value.Share();
        Kernels.LowRank.ForwardGrouped(x.Value, groups, result);
        return Tape.Constant(result);
    }

    private sealed class LowRankNode : Node
    {
        private readonly Variable _y;
        private readonly Variable _x;
        private readonly Variable _a;
        private readonly Variable _b;
        private readonly float _scale;
        private readonly Tensor _savedX;
        private readonly Tensor _savedA;
        private readonly Tensor _savedB;
        private readonly Tensor _s;

        public LowRankNode(Variable y, Variable x, Variable a, Variable b, Tensor s, float scale)
        {
            _y = y;
            _x = x;
            _a = a;
            _b = b;
            _scale = scale;
            _savedX = Save(x.Value);
            _savedA = Save(a.Value);
            _savedB = Save(b.Value);
            _s = Keep(s);
        }

        public override string Name => "low_rank";

        protected internal override void Backward(Tensor gradient)
        {
            Tensor? dx = _x.RequiresGrad ? _x.OpenGradientForAdd() : null;
            Tensor? da = _a.RequiresGrad ? _a.OpenGradientForAdd() : null;
            Tensor? db = _b.RequiresGrad ? _b.OpenGradientForAdd() : null;
            if (dx is not null || da is not null || db is not null)
            {
                Kernels.LowRank.Backward(gradient, _savedX, _savedA, _savedB, _s, _scale, dx, da, db);
            }

            _y.AccumulateGradient(gradient.Share());
        }
    }
}
