using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>GELU, exact (erf) or the tanh approximation. Source: Hendrycks and Gimpel. x and y [R,C].</summary>
    public static Variable Gelu(this Tape tape, Variable x, bool tanh)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        Tensor y = x.Value.EmptyLike();
        Kernels.Gelu.Forward(x.Value, tanh, y);
        return tape.Needs(x)
            ? tape.Record(y, new UnaryNode("gelu", x, (dy, saved, dx) => Kernels.Gelu.Backward(dy, saved, tanh, dx)))
            : Tape.Constant(y);
    }

    /// <summary>SiLU: y = x·σ(x). x and y [R,C].</summary>
    public static Variable Silu(this Tape tape, Variable x)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        Tensor y = x.Value.EmptyLike();
        Kernels.Silu.Forward(x.Value, y);
        return tape.Needs(x) ? tape.Record(y, new UnaryNode("silu", x, Kernels.Silu.Backward)) : Tape.Constant(y);
    }

    /// <summary>
    /// y = silu(gate)∘up; all [R,C]. Source: Shazeer, GLU variants. Backward with σ = σ(g):
    /// dUp = dY∘silu(g), dGate = dY∘up∘σ·(1 + g·(1 − σ)).
    /// </summary>
    public static Variable SwiGlu(this Tape tape, Variable gate, Variable up)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(gate);
        ArgumentNullException.ThrowIfNull(up);
        Tensor y = gate.Value.EmptyLike();
        Kernels.SwiGlu.Forward(gate.Value, up.Value, y);
        return tape.Needs(gate, up) ? tape.Record(y, new SwiGluNode(gate, up)) : Tape.Constant(y);
    }

    private sealed class UnaryNode : Node
    {
        private readonly Variable _x;
        private readonly Tensor _savedX;
        private readonly Action<Tensor, Tensor, Tensor> _backward;

        public UnaryNode(string name, Variable x, Action<Tensor, Tensor, Tensor> backward)
        {
            Name = name;
            _x = x;
            _savedX = Save(x.Value);
            _backward = backward;
        }

        public override string Name { get; }

        protected internal override void Backward(Tensor gradient)
        {
            Tensor dx = _savedX.EmptyLike();
            _backward(gradient, _savedX, dx);
            _x.AccumulateGradient(dx);
        }
    }

    private sealed class SwiGluNode : Node
    {
        private readonly Variable _gate;
        private readonly Variable _up;
        private readonly Tensor _savedGate;
        private readonly Tensor _savedUp;

        public SwiGluNode(Variable gate, Variable up)
        {
            _gate = gate;
            _up = up;
            _savedGate = Save(gate.Value);
            _savedUp = Save(up.Value);
        }

        public override string Name => "swiglu";

        protected internal override void Backward(Tensor gradient)
        {
            using var made = new Tentative();
            Tensor dGate = made.Add(_savedGate.EmptyLike());
            Tensor dUp = made.Add(_savedUp.EmptyLike());
            Kernels.SwiGlu.Backward(gradient, _savedGate, _savedUp, dGate, dUp);
            made.Keep();
            _gate.AccumulateGradient(dGate);
            _up.AccumulateGradient(dUp);
        }
    }
}
