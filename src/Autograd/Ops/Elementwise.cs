using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>y = a + b, same shape (the residual connection). Backward passes dY to both, shared, without a copy.</summary>
    public static Variable Add(this Tape tape, Variable a, Variable b)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        Tensor y = a.Value.EmptyLike();
        Elementwise.Add(a.Value, b.Value, y);
        return Added(tape, a, b, y);
    }

    private static Variable Added(Tape tape, Variable a, Variable b, Tensor y)
    {
        Variable sum = tape.Needs(a, b) ? tape.Record(y, new AddNode(a, b)) : Tape.Constant(y);
        sum.GradientBorder = Math.Max(a.GradientBorder, b.GradientBorder);
        return sum;
    }

    /// <summary>y = s·x.</summary>
    public static Variable Scale(this Tape tape, Variable x, float scale)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        Tensor y = x.Value.EmptyLike();
        Elementwise.Scale(x.Value, scale, y);
        return tape.Needs(x) ? tape.Record(y, new ScaleNode(x, scale)) : Tape.Constant(y);
    }

    /// <summary>
    /// Inverted dropout: y = x·mask/(1 − p) with the mask drawn from a counter-based generator, so that backward draws it
    /// again instead of keeping it. Source: Srivastava et al.; Salmon et al., Philox.
    /// </summary>
    public static Variable Dropout(this Tape tape, Variable x, float p, DropoutKey key)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        Tensor y = x.Value.EmptyLike();
        if (x.Value.IsContiguous)
        {
            Kernels.Dropout.Apply(x.Value, p, key, y);
        }
        else
        {
            Copy.Run(x.Value, y);
            Kernels.Dropout.Apply(y, p, key, y);
        }

        return tape.Needs(x) ? tape.Record(y, new DropoutNode(x, p, key)) : Tape.Constant(y);
    }

    /// <summary>Another variable for the same value, which the caller disposes by itself: where an op may or may not be there.</summary>
    public static Variable Same(this Tape tape, Variable x)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        Tensor y = x.Value.Share();
        Variable same = tape.Needs(x) ? tape.Record(y, new SameNode(x)) : Tape.Constant(y);
        same.GradientBorder = x.GradientBorder;
        return same;
    }

    /// <summary>The same elements under another shape; no copy.</summary>
    public static Variable Reshape(this Tape tape, Variable x, params ReadOnlySpan<int> extents)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        Tensor y = x.Value.Reshape(extents);
        return tape.Needs(x) ? tape.Record(y, new ReshapeNode(x)) : Tape.Constant(y);
    }

    private sealed class AddNode(Variable a, Variable b) : Node
    {
        public override string Name => "add";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient)
        {
            a.AccumulateGradient(gradient.Share());
            b.AccumulateGradient(gradient.Share());
        }
    }

    private sealed class SameNode(Variable x) : Node
    {
        public override string Name => "same";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient) => x.AccumulateGradient(gradient.Share());
    }

    private sealed class ScaleNode(Variable x, float scale) : Node
    {
        public override string Name => "scale";

        protected internal override void Backward(Tensor gradient)
        {
            Tensor dx = gradient.EmptyLike();
            Elementwise.Scale(gradient, scale, dx);
            x.AccumulateGradient(dx);
        }
    }

    private sealed class DropoutNode(Variable x, float p, DropoutKey key) : Node
    {
        public override string Name => "dropout";

        protected internal override void Backward(Tensor gradient)
        {
            Tensor dx = gradient.EmptyLike();
            Kernels.Dropout.Apply(gradient, p, key, dx);
            x.AccumulateGradient(dx);
        }
    }

    private sealed class ReshapeNode(Variable x) : Node
    {
        private readonly Shape _shape = x.Value.Shape;

        public override string Name => "reshape";

        protected internal override void Backward(Tensor gradient)
        {
            Span<int> extents = stackalloc int[_shape.Rank];
            for (int i = 0; i < extents.Length; i++)
            {
                extents[i] = _shape[i];
            }

            x.AccumulateGradient(gradient.Reshape(extents));
        }
    }
}
