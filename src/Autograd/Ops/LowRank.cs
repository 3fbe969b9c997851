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
        DType operand = MatMul.OperandType(x.Value);
        using var made = new Tentative();
        Tensor? s = needed ? made.Add(Tensor.Empty([x.Value.Shape[0], a.Value.Shape[0]], operand, x.Value.Device)) : null;
        Tensor result = made.Add(y.Value.Share());
        using Tensor down = Operand(a.Value, operand);
        using Tensor up = Operand(b.Value, operand);
        Kernels.LowRank.Forward(x.Value, down, up, scale, result, s);
        made.Keep();
        return needed ? tape.Record(result, new LowRankNode(y, x, a, b, down, up, s!, scale)) : Tape.Constant(result);
    }

    // Converted once for forward and backward where the products take a narrower dtype than the master's.
    private static Tensor Operand(Tensor master, DType dtype)
    {
        if (master.DType.Size() <= dtype.Size())
        {
            return master.Share();
        }

        Tensor operand = master.EmptyLike(dtype);
        Cast.Run(master, operand);
        return operand;
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

        public LowRankNode(Variable y, Variable x, Variable a, Variable b, Tensor down, Tensor up, Tensor s, float scale)
        {
            _y = y;
            _x = x;
            _a = a;
            _b = b;
            _scale = scale;
            _savedX = Save(x.Value);
            _savedA = Save(down);
            _savedB = Save(up);
            _s = Keep(s);
        }

        public override string Name => "low_rank";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient)
        {
            bool fresh = false;
            Tensor? dx = _x.RequiresGrad ? _x.OpenGradient(out fresh) : null;
            Tensor? da = _a.RequiresGrad ? _a.OpenGradientForAdd() : null;
            Tensor? db = _b.RequiresGrad ? _b.OpenGradientForAdd() : null;
            if (dx is not null || da is not null || db is not null)
            {
                Kernels.LowRank.Backward(gradient, _savedX, _savedA, _savedB, _s, _scale, dx, da, db, setX: fresh);
            }

            _y.AccumulateGradient(gradient.Share());
        }
    }
}
