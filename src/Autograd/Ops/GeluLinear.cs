using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// y = gelu(x)·Wᵀ + b. Shapes: x [R,K], W [N,K] (or [K,N] when <paramref name="transposed"/>), b [N], y [R,N]. Keeps x alone: the
    /// bits are those of <see cref="Gelu"/> and <see cref="Linear(Tape, Variable, Variable, Variable?, bool)"/>.
    /// Backward: dX = (dY·W)∘gelu′(x) in one product, dW += dYᵀ·gelu(x) with gelu(x) formed again, db += Σ_r dY.
    /// </summary>
    public static Variable GeluLinear(
        this Tape tape, Variable x, bool tanh, Variable weight, Variable? bias, bool transposed = false)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(weight);
        using var made = new Tentative();
        Tensor y = made.Add(Tensor.Empty([x.Value.Shape[0], weight.Value.Shape[transposed ? 1 : 0]], x.Value.DType, x.Value.Device));
        Kernels.GeluLinear.Forward(x.Value, tanh, weight.Value, transposed, bias?.Value, y);
        made.Keep();
        return tape.Needs(x, weight, bias)
            ? tape.Record(y, new GeluLinearNode(x, tanh, weight, bias, transposed))
            : Tape.Constant(y);
    }

    private sealed class GeluLinearNode : Node
    {
        private readonly Variable _x;
        private readonly bool _tanh;
        private readonly Variable _weight;
        private readonly Variable? _bias;
        private readonly bool _transposed;
        private readonly Tensor _savedX;
        private readonly Tensor? _savedWeight;

        public GeluLinearNode(Variable x, bool tanh, Variable weight, Variable? bias, bool transposed)
        {
            (_x, _tanh, _weight, _bias, _transposed) = (x, tanh, weight, bias, transposed);
            _savedX = Save(x.Value);
            _savedWeight = x.RequiresGrad ? Save(weight.Value) : null;
        }

        public override string Name => "gelu_linear";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient)
        {
            if (_savedWeight is not null)
            {
                using var made = new Tentative();
                Tensor dx = made.Add(_x.NewGradient());
                Kernels.GeluLinear.Backward(gradient, _savedX, _tanh, _savedWeight, _transposed, dx);
                made.Keep();
                _x.AccumulateGradient(dx);
            }

            if (_weight.RequiresGrad)
            {
                using Tensor inner = Tensor.Empty(_savedX.Shape, _savedX.DType, _savedX.Device);
                Kernels.Gelu.Forward(_savedX, _tanh, inner);
                LinearWeightGradient(gradient, inner, _weight, _transposed);
            }

            if (_bias is { RequiresGrad: true })
            {
                Kernels.Elementwise.BiasGradient(gradient, _bias.OpenGradientForAdd());
            }
        }
    }
}
