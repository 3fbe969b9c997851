using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// y = (x − mean)·rstd·w + b per row. Shapes: x, y [R,C], w, b [C]. Source: Ba et al., Layer Normalization.
    /// Backward with x̂ = (x − mean)·rstd and g = dY∘w: dX = rstd·(g − mean(g) − x̂·mean(g∘x̂)), dw += Σ dY∘x̂, db += Σ dY.
    /// </summary>
    public static Variable LayerNorm(this Tape tape, Variable x, Variable weight, Variable? bias, float epsilon, int border = 0)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(weight);
        using var made = new Tentative();
        Tensor y = made.Add(Bordered(x.Value, border));
        Tensor mean = made.Add(Tensor.Empty([RowsOf(x.Value)], StatisticsOf(x.Value), x.Value.Device));
        Tensor rstd = made.Add(mean.EmptyLike());
        Kernels.LayerNorm.Forward(x.Value, weight.Value, bias?.Value, epsilon, y, mean, rstd);
        made.Keep();
        return Normed(tape, x, weight, bias, epsilon, y, mean, rstd);
    }

    private static Variable Normed(
        Tape tape, Variable x, Variable weight, Variable? bias, float epsilon, Tensor y, Tensor mean, Tensor rstd)
    {
        if (tape.Needs(x, weight, bias))
        {
            Variable result = tape.Record(y, new LayerNormNode(x, weight, bias, mean, rstd));
            result.Source = new NormedSource(new NormedInput(x.Value, weight.Value, bias?.Value, mean, rstd, epsilon));
            return result;
        }

        mean.Dispose();
        rstd.Dispose();
        return Tape.Constant(y);
    }

    private sealed class LayerNormNode : Node
    {
        private readonly Variable _x;
        private readonly Variable _weight;
        private readonly Variable? _bias;
        private readonly Tensor _savedX;
        private readonly Tensor _savedWeight;
        private readonly Tensor _mean;
        private readonly Tensor _rstd;

        public LayerNormNode(Variable x, Variable weight, Variable? bias, Tensor mean, Tensor rstd)
        {
            _x = x;
            _weight = weight;
            _bias = bias;
            _savedX = Save(x.Value);
            _savedWeight = Save(weight.Value);
            _mean = Keep(mean);
            _rstd = Keep(rstd);
        }

        public override string Name => "layernorm";

        protected internal override void Backward(Tensor gradient)
        {
            bool fresh = true;
            Tensor? dx = _x.RequiresGrad ? _x.OpenGradient(out fresh) : null;
            Tensor? dw = _weight.RequiresGrad ? _weight.OpenGradientForAdd() : null;
            Tensor? db = _bias is { RequiresGrad: true } ? _bias.OpenGradientForAdd() : null;
            Kernels.LayerNorm.Backward(gradient, _savedX, _savedWeight, _mean, _rstd, dx, dw, db, addX: !fresh);
        }
    }
}
