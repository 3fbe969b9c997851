using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// y = x[:, start .. start + count], copied. Shapes: x [R,C], y [R,count]. Backward adds dY to its columns of dX, in
    /// place, so that a fused projection split into q, k, v has its gradient assembled without further copies of it.
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
            Tensor dx = x.OpenGradient(out bool fresh);
            using Tensor place = dx.Slice(1, start, gradient.Shape[1]);
            if (fresh)
            {
                dx.Clear();
                Copy.Run(gradient, place);
                return;
            }

            // Sums are over contiguous tensors.
            using Tensor sum = gradient.EmptyLike();
            Copy.Run(place, sum);
            Elementwise.Add(sum, gradient, sum);
            Copy.Run(sum, place);
        }
    }
}
