using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// Rotary position embedding on pairs (i, i + D/2). Shapes: x [B,T,H,D], cos and sin [P,D/2], positions I32 [B,T].
    /// Source: Su et al., RoFormer. Backward is the inverse rotation.
    /// </summary>
    public static Variable Rope(this Tape tape, Variable x, Tensor cos, Tensor sin, Tensor positions)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        Tensor y = x.Value.EmptyLike();
        Kernels.Rope.Apply(x.Value, cos, sin, positions, inverse: false, y);
        return tape.Needs(x) ? tape.Record(y, new RopeNode(x, cos, sin, positions)) : Tape.Constant(y);
    }

    private sealed class RopeNode : Node
    {
        private readonly Variable _x;
        private readonly Tensor _cos;
        private readonly Tensor _sin;
        private readonly Tensor _positions;

        public RopeNode(Variable x, Tensor cos, Tensor sin, Tensor positions)
        {
            _x = x;
            _cos = Save(cos);
            _sin = Save(sin);
            _positions = Save(positions);
        }

        public override string Name => "rope";

        protected internal override void Backward(Tensor gradient)
        {
            Tensor dx = gradient.EmptyLike();
            Kernels.Rope.Apply(gradient, _cos, _sin, _positions, inverse: true, dx);
            _x.AccumulateGradient(dx);
        }
    }
}
