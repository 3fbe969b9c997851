using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

/// <summary>The differentiable ops: extension methods on <see cref="Tape"/>, one file per op.</summary>
public static partial class Ops
{
    /// <summary>
    /// y = x·Wᵀ + b. Shapes: x [R,K], W [N,K] (or [K,N] when <paramref name="transposed"/>, GPT-2's Conv1D), b [N], y [R,N].
    /// Backward: dX = dY·W, dW += dYᵀ·X, db += Σ_r dY; a frozen weight gets no gradient and costs no work.
    /// </summary>
    public static Variable Linear(this Tape tape, Variable x, Variable weight, Variable? bias, bool transposed = false)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(weight);
        int outputs = weight.Value.Shape[transposed ? 1 : 0];
        using var made = new Tentative();
        Tensor y = made.Add(Tensor.Empty([x.Value.Shape[0], outputs], x.Value.DType, x.Value.Device));
        MatMul.Run(x.Value, false, weight.Value, !transposed, y, bias: bias?.Value);
        made.Keep();
        return tape.Needs(x, weight, bias) ? tape.Record(y, new LinearNode(x, weight, bias, transposed)) : Tape.Constant(y);
    }

    private sealed class LinearNode : Node
    {
        private readonly Variable _x;
        private readonly Variable _weight;
        private readonly Variable? _bias;
        private readonly bool _transposed;
        private readonly Tensor? _savedX;
        private readonly Tensor? _savedWeight;

        public LinearNode(Variable x, Variable weight, Variable? bias, bool transposed)
        {
            _x = x;
            _weight = weight;
            _bias = bias;
            _transposed = transposed;
            _savedX = weight.RequiresGrad ? Save(x.Value) : null;
            _savedWeight = x.RequiresGrad ? Save(weight.Value) : null;
        }

        public override string Name => "linear";

        protected internal override void Backward(Tensor gradient)
        {
            if (_savedWeight is not null)
            {
                Tensor dx = _x.OpenGradient(out bool fresh);
                MatMul.Run(gradient, false, _savedWeight, _transposed, dx, beta: fresh ? 0 : 1);
            }

            if (_savedX is not null)
            {
                Tensor dw = _weight.OpenGradient(out bool fresh);
                float beta = fresh ? 0 : 1;
                if (_transposed)
                {
                    MatMul.Run(_savedX, true, gradient, false, dw, beta: beta);
                }
                else
                {
                    MatMul.Run(gradient, true, _savedX, false, dw, beta: beta);
                }
            }

            if (_bias is { RequiresGrad: true })
            {
                Elementwise.BiasGradient(gradient, _bias.OpenGradientForAdd());
            }
        }
    }
}
