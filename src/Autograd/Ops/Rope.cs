using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// Rotary position embedding on pairs (i, i + D/2) of the first <paramref name="heads"/> heads that lie side by side in the
    /// rows of x [B·T, at least heads·D], in place in x, which is used up (the result takes its tensor over). Shapes: cos and
    /// sin [P,D/2], positions I32 [B,T]. Source: Su et al., RoFormer. Backward is the inverse rotation, in place too.
    /// </summary>
    public static Variable Rope(this Tape tape, Variable x, int heads, int width, Tensor cos, Tensor sin, Tensor positions)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(positions);
        using Tensor view = x.Value.Heads(positions.Shape[0], positions.Shape[1], 0, heads, width);
        Kernels.Rope.Apply(view, cos, sin, positions, inverse: false, view);
        Tensor y = x.Value.Share();
        Variable result = tape.Needs(x) ? tape.Record(y, new RopeNode(x, heads, width, cos, sin, positions)) : Tape.Constant(y);
        result.GradientBorder = x.GradientBorder;
        return result;
    }

    private sealed class RopeNode : Node
    {
        private readonly Variable _x;
        private readonly int _heads;
        private readonly int _width;
        private readonly Tensor _cos;
        private readonly Tensor _sin;
        private readonly Tensor _positions;

        public RopeNode(Variable x, int heads, int width, Tensor cos, Tensor sin, Tensor positions)
        {
            _x = x;
            _heads = heads;
            _width = width;
            _cos = Save(cos);
            _sin = Save(sin);
            _positions = Save(positions);
        }

        public override string Name => "rope";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient)
        {
            // The gradient becomes that of x where nobody else holds it.
            using var made = new Tentative();
            Tensor dx = made.Add(gradient.Storage.Owners == 1 ? gradient.Share() : _x.NewGradient());
            if (dx.Storage != gradient.Storage)
            {
                Kernels.Copy.Run(gradient, dx);
            }

            using (Tensor view = dx.Heads(_positions.Shape[0], _positions.Shape[1], 0, _heads, _width))
            {
                Kernels.Rope.Apply(view, _cos, _sin, _positions, inverse: true, view);
            }

            made.Keep();
            _x.AccumulateGradient(dx);
        }
    }
}
