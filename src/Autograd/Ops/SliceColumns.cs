using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// y = x[:, start .. start + count], copied. Shapes: x [R,C], y [R,count]. Backward writes dY into its columns of dX, so
    /// the slices taken of one x must not overlap and must be its only uses (a fused projection split into q, k, v).
    /// </summary>
    public static Variable SliceColumns(this Tape tape, Variable x, int start, int count)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        Tensor y = Tensor.Empty([x.Value.Shape[0], count], x.Value.DType, x.Value.Device);
        using (Tensor source = x.Value.Slice(1, start, count))
        {
            Copy.Run(source, y);
        }

        return tape.Needs(x) ? tape.Record(y, new SliceColumnsNode(x, start)) : Tape.Constant(y);
    }

    private sealed class SliceColumnsNode(Variable x, int start) : Node
    {
        public override string Name => "slice_columns";

        protected internal override void Backward(Tensor gradient)
        {
            using Tensor place = x.OpenGradientForAdd().Slice(1, start, gradient.Shape[1]);
            Copy.Run(gradient, place);
        }
    }
}
