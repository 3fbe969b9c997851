using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>A copy of some columns: x [R,C] → y [R,count]. Backward adds dY to those columns of dX.</summary>
    public static Variable Columns(this Tape tape, Variable x, int start, int count)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        using Tensor part = x.Value.Slice(1, start, count);
        Tensor y = part.EmptyLike();
        Copy.Run(part, y);
        return tape.Needs(x) ? tape.Record(y, new ColumnsNode(x, start)) : Tape.Constant(y);
    }

    /// <summary>The columns of several matrices of equal rows side by side: x_i [R,C_i] → y [R,ΣC_i]. Backward takes them apart.</summary>
    public static Variable JoinColumns(this Tape tape, IReadOnlyList<Variable> parts)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(parts);
        Tensor first = parts[0].Value;
        Tensor y = Tensor.Empty([first.Shape[0], parts.Sum(static p => p.Value.Shape[1])], first.DType, first.Device);
        int at = 0;
        bool needed = false;
        foreach (Variable part in parts)
        {
            using Tensor place = y.Slice(1, at, part.Value.Shape[1]);
            Copy.Run(part.Value, place);
            at += part.Value.Shape[1];
            needed |= tape.Needs(part);
        }

        return needed ? tape.Record(y, new JoinColumnsNode([.. parts])) : Tape.Constant(y);
    }

    private sealed class ColumnsNode(Variable x, int start) : Node
    {
        public override string Name => "columns";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient)
        {
            Tensor dx = x.OpenGradientForAdd();
            using Tensor part = dx.Slice(1, start, gradient.Shape[1]);
            Elementwise.Add(part, gradient, part);
        }
    }

    private sealed class JoinColumnsNode(Variable[] parts) : Node
    {
        private readonly int[] _columns = [.. parts.Select(static p => p.Value.Shape[1])];

        public override string Name => "join_columns";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient)
        {
            int at = 0;
            for (int i = 0; i < parts.Length; i++)
            {
                if (parts[i].RequiresGrad)
                {
                    using Tensor columns = gradient.Slice(1, at, _columns[i]);
                    Tensor own = parts[i].NewGradient();
                    Copy.Run(columns, own);
                    parts[i].AccumulateGradient(own);
                }

                at += _columns[i];
            }
        }
    }
}
