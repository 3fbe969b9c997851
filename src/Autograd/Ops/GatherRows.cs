using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>y[i] = x[rows[i]]; each row at most once. Shapes: x [R,C], rows I32 [N], y [N,C]. Backward scatters.</summary>
    public static Variable GatherRows(this Tape tape, Variable x, Tensor rows)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(rows);
        Tensor y = Tensor.Empty([checked((int)rows.Elements), x.Value.Shape[1]], x.Value.DType, x.Value.Device);
        Kernels.Embedding.Forward(rows, x.Value, y);
        return tape.Needs(x) ? tape.Record(y, new GatherRowsNode(x, rows)) : Tape.Constant(y);
    }

    private sealed class GatherRowsNode : Node
    {
        private readonly Variable _x;
        private readonly Tensor _rows;

        public GatherRowsNode(Variable x, Tensor rows)
        {
            _x = x;
            _rows = Save(rows);
        }

        public override string Name => "gather_rows";

        protected internal override void Backward(Tensor gradient) =>
            Kernels.Embedding.Backward(_rows, gradient, _x.OpenGradientForAdd());
    }
}
