using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// y[i] = x[rows[i]], 0 for a row below 0; each row at most once. Shapes: x [R,C], rows I32 [N], y [N,C]. Backward scatters, or,
    /// where the places are known and dX begins here, gathers too: dX[r] = dY[places[r]].
    /// </summary>
    /// <param name="tape">Records, or not.</param>
    /// <param name="x">The table.</param>
    /// <param name="rows">Which rows.</param>
    /// <param name="places">The inverse, I32 [R]: where in <paramref name="rows"/> each row of x is, −1 for nowhere; or null.</param>
    public static Variable GatherRows(this Tape tape, Variable x, Tensor rows, Tensor? places = null)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(rows);
        Tensor y = Tensor.Empty([checked((int)rows.Elements), x.Value.Shape[1]], x.Value.DType, x.Value.Device);
        Kernels.Embedding.Forward(rows, x.Value, y);
        return tape.Needs(x) ? tape.Record(y, new GatherRowsNode(x, rows, places)) : Tape.Constant(y);
    }

    private sealed class GatherRowsNode : Node
    {
        private readonly Variable _x;
        private readonly Tensor _rows;
        private readonly Tensor? _places;

        public GatherRowsNode(Variable x, Tensor rows, Tensor? places)
        {
            _x = x;
            _rows = Save(rows);
            _places = places is null ? null : Save(places);
        }

        public override string Name => "gather_rows";

        protected internal override void Backward(Tensor gradient)
        {
            if (_places is null || _x.Gradient is not null)
            {
                Kernels.Embedding.Backward(_rows, gradient, _x.OpenGradientForAdd());
                return;
            }

            // One pass over dX, which need not be zero before.
            Kernels.Embedding.Forward(_places, gradient, _x.OpenGradient(out _));
        }
    }
}
