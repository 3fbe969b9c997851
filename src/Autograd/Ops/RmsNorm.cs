using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// y = x·rstd·w with rstd = 1/√(mean(x²) + ε) per row. Shapes: x, y [R,C], w [C]. Source: Zhang and Sennrich, RMSNorm.
    /// Backward with x̂ = x·rstd and g = dY∘w: dX = rstd·(g − x̂·mean(g∘x̂)), dw += Σ_r dY∘x̂.
    /// </summary>
    public static Variable RmsNorm(this Tape tape, Variable x, Variable weight, float epsilon, int border = 0)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(weight);
        using var made = new Tentative();
        Tensor y = made.Add(Bordered(x.Value, border));
        Tensor rstd = made.Add(Tensor.Empty([RowsOf(x.Value)], StatisticsOf(x.Value), x.Value.Device));
        Kernels.RmsNorm.Forward(x.Value, weight.Value, epsilon, y, rstd);
        made.Keep();
        return Normed(tape, x, weight, epsilon, y, rstd);
    }

    private static Variable Normed(Tape tape, Variable x, Variable weight, float epsilon, Tensor y, Tensor rstd)
    {
        if (tape.Needs(x, weight))
        {
            Variable result = tape.Record(y, new RmsNormNode(x, weight, rstd));
            result.Source = new NormedSource(new NormedInput(x.Value, weight.Value, null, null, rstd, epsilon));
            return result;
        }

        rstd.Dispose();
        return Tape.Constant(y);
    }

    // A tensor like a matrix for an op's result, with a border where one is asked for.
    private static Tensor Bordered(Tensor model, int border) => border > 0 && model.Shape.Rank == 2
        ? Tensor.EmptyBordered(model.Shape, border, model.DType, model.Device)
        : model.EmptyLike();

    internal static int RowsOf(Tensor tensor) =>
        tensor.Shape[^1] == 0 ? 0 : checked((int)(tensor.Elements / tensor.Shape[^1]));

    internal static DType StatisticsOf(Tensor tensor) => tensor.DType == DType.F64 ? DType.F64 : DType.F32;

    private sealed class RmsNormNode : Node
    {
        private readonly Variable _x;
        private readonly Variable _weight;
        private readonly Tensor _savedX;
        private readonly Tensor _savedWeight;
        private readonly Tensor _rstd;

        public RmsNormNode(Variable x, Variable weight, Tensor rstd)
        {
            _x = x;
            _weight = weight;
            _savedX = Save(x.Value);
            _savedWeight = Save(weight.Value);
            _rstd = Keep(rstd);
        }

        public override string Name => "rmsnorm";

        protected internal override void Backward(Tensor gradient)
        {
            bool fresh = true;
            Tensor? dx = _x.RequiresGrad ? _x.OpenGradient(out fresh) : null;
            Tensor? dw = _weight.RequiresGrad ? _weight.OpenGradientForAdd() : null;
            Kernels.RmsNorm.Backward(gradient, _savedX, _savedWeight, _rstd, dx, dw, addX: !fresh);
        }
    }
}
