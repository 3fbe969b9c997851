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
    public static Variable Linear(this Tape tape, Variable x, Variable weight, Variable? bias, bool transposed = false) =>
        Linear(tape, x, [(weight, bias)], transposed);

    /// <summary>The same for several linears of one input: their outputs lie side by side, y [R, ΣN].</summary>
    public static Variable Linear(
        this Tape tape, Variable x, IReadOnlyList<(Variable Weight, Variable? Bias)> linears, bool transposed = false)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(linears);
        int outputs = linears.Sum(l => l.Weight.Value.Shape[transposed ? 1 : 0]);
        using var made = new Tentative();
        Tensor y = made.Add(Tensor.Empty([x.Value.Shape[0], outputs], x.Value.DType, x.Value.Device));
        bool needed = false;
        int at = 0;
        foreach ((Variable weight, Variable? bias) in linears)
        {
            int own = weight.Value.Shape[transposed ? 1 : 0];
            using Tensor columns = y.Slice(1, at, own);
            MatMul.Run(x.Value, false, weight.Value, !transposed, columns, bias: bias?.Value);
            needed |= tape.Needs(x, weight, bias);
            at += own;
        }

        made.Keep();
        return needed ? tape.Record(y, new LinearNode(x, [.. linears], transposed)) : Tape.Constant(y);
    }

    private sealed class LinearNode : Node
    {
        private readonly Variable _x;
        private readonly (Variable Weight, Variable? Bias)[] _linears;
        private readonly bool _transposed;
        private readonly Tensor? _savedX;
        private readonly Tensor?[] _savedWeights;

        public LinearNode(Variable x, (Variable Weight, Variable? Bias)[] linears, bool transposed)
        {
            _x = x;
            _linears = linears;
            _transposed = transposed;
            _savedX = linears.Any(static l => l.Weight.RequiresGrad) ? Save(x.Value) : null;
            _savedWeights = [.. linears.Select(l => x.RequiresGrad ? Save(l.Weight.Value) : null)];
        }

        public override string Name => "linear";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient)
        {
            int at = 0;
            for (int i = 0; i < _linears.Length; i++)
            {
                (Variable weight, Variable? bias) = _linears[i];
                int own = weight.Value.Shape[_transposed ? 1 : 0];
                using Tensor columns = gradient.Slice(1, at, own);
                at += own;
                if (_savedWeights[i] is { } saved)
                {
                    Tensor dx = _x.OpenGradient(out bool fresh);
                    MatMul.Run(columns, false, saved, _transposed, dx, beta: fresh ? 0 : 1);
                }

                if (weight.RequiresGrad)
                {
                    LinearWeightGradient(columns, _savedX!, weight, _transposed);
                }

                if (bias is { RequiresGrad: true })
                {
                    Elementwise.BiasGradient(columns, bias.OpenGradientForAdd());
                }
            }
        }
    }

    // dW += dYᵀ·X, or its transpose.
    private static void LinearWeightGradient(Tensor gradient, Tensor x, Variable weight, bool transposed)
    {
        Tensor dw = weight.OpenGradient(out bool fresh);
        float beta = fresh ? 0 : 1;
        if (transposed)
        {
            MatMul.Run(x, true, gradient, false, dw, beta: beta);
        }
        else
        {
            MatMul.Run(gradient, true, x, false, dw, beta: beta);
        }
    }
}
