using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>GELU, exact (erf) or the tanh approximation. Source: Hendrycks and Gimpel. x and y [R,C].</summary>
    public static Variable Gelu(this Tape tape, Variable x, bool tanh, int border = 0)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        Tensor y = Bordered(x.Value, border);
        Kernels.Gelu.Forward(x.Value, tanh, y);
        return tape.Needs(x)
            ? tape.Record(y, new UnaryNode("gelu", x, (dy, saved, dx) => Kernels.Gelu.Backward(dy, saved, tanh, dx)))
            : Tape.Constant(y);
    }

    /// <summary>SiLU: y = x·σ(x). x and y [R,C].</summary>
    public static Variable Silu(this Tape tape, Variable x, int border = 0)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        Tensor y = Bordered(x.Value, border);
        Kernels.Silu.Forward(x.Value, y);
        return tape.Needs(x) ? tape.Record(y, new UnaryNode("silu", x, Kernels.Silu.Backward)) : Tape.Constant(y);
    }

    /// <summary>
    /// y = silu(gate)∘up for one matrix [R, 2·C] whose columns are those of gate, then those of up; y [R,C]. Source: Shazeer,
    /// GLU variants. Backward with σ = σ(g): dUp = dY∘silu(g), dGate = dY∘up∘σ·(1 + g·(1 − σ)).
    /// </summary>
    public static Variable SwiGlu(this Tape tape, Variable gateUp, int border = 0)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(gateUp);
        Tensor value = gateUp.Value;
        int columns = value.Shape[1] / 2;
        Tensor y = Tensor.EmptyBordered([value.Shape[0], columns], border, value.DType, value.Device);
        using Tensor gate = value.Slice(1, 0, columns);
        using Tensor up = value.Slice(1, columns, columns);
        Kernels.SwiGlu.Forward(gate, up, y);
        return tape.Needs(gateUp) ? tape.Record(y, new SwiGluNode(gateUp)) : Tape.Constant(y);
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

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient)
        {
            using var made = new Tentative();
            Tensor dx = made.Add(_x.NewGradient());
            _backward(gradient, _savedX, dx);
            made.Keep();
            _x.AccumulateGradient(dx);
        }
    }

    private sealed class SwiGluNode : Node
    {
        private readonly Variable _gateUp;
        private readonly Tensor _saved;

        public SwiGluNode(Variable gateUp)
        {
            _gateUp = gateUp;
            _saved = Save(gateUp.Value);
        }

        public override string Name => "swiglu";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient)
        {
            int columns = gradient.Shape[1];
            using var made = new Tentative();
            Tensor whole = made.Add(_gateUp.NewGradient());
            using (Tensor gate = _saved.Slice(1, 0, columns))
            using (Tensor up = _saved.Slice(1, columns, columns))
            using (Tensor dGate = whole.Slice(1, 0, columns))
            using (Tensor dUp = whole.Slice(1, columns, columns))
            {
                Kernels.SwiGlu.Backward(gradient, gate, up, dGate, dUp);
            }

            made.Keep();
            _gateUp.AccumulateGradient(whole);
        }
    }
}
