using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

public static partial class Ops
{
    /// <summary>
    /// The end of a gated MLP, z = <see cref="AdaptedLinear"/> of y = silu(gate)∘up, without keeping y: the results are those of
    /// <see cref="SwiGlu"/> and <see cref="AdaptedLinear"/> one after the other, on the CPU to the bit; on a GPU S may be added up
    /// in another order. Shapes: gateUp [R, 2·K] with the columns of gate, then those of up, y [R,K], z [R, ΣN]. Backward as
    /// theirs: dY = [dZ dS]·[W;A], dUp = dY∘silu(gate), dGate = dY∘up∘silu′(gate), and in the same pass dA += dSᵀ·y with y formed
    /// again. Kept are gate, up and S.
    /// </summary>
    /// <param name="tape">Records, or not.</param>
    /// <param name="gateUp">Both inputs of SwiGLU.</param>
    /// <param name="weight">The stack of K inputs.</param>
    /// <param name="parts">One for each of its linears.</param>
    public static Variable SwiGluLinear(this Tape tape, Variable gateUp, BorderedWeight weight, IReadOnlyList<AdaptedPart> parts)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(gateUp);
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(parts);
        (int rows, DType dtype, Device device) = (gateUp.Value.Shape[0], weight.DType, weight.Device);
        bool needed = Needed(tape, gateUp, parts);
        Tensor?[] biases = [.. parts.Select(static p => p.Bias?.Value)];

        // A few rows that nobody trains by: the product forms S itself.
        if (!needed && !Trains(gateUp, parts) && Kernels.LowRank.Decodes(rows, weight, biases))
        {
            using Variable result = tape.SwiGlu(gateUp, weight.Border);
            return tape.AdaptedLinear(result, null, weight, parts);
        }

        using var made = new Tentative();
        Tensor y = made.Add(Tensor.Empty([rows, weight.Outputs], dtype, device));
        Tensor? s = needed ? made.Add(EmptyOfS(y, weight)) : null;
        using (Tensor inner = Tensor.EmptyBordered([rows, weight.Inputs], weight.Border, dtype, device))
        using (Tensor border = inner.BorderColumns(weight.Width))
        using (Tensor gate = gateUp.Value.Slice(1, 0, weight.Inputs))
        using (Tensor up = gateUp.Value.Slice(1, weight.Inputs, weight.Inputs))
        {
            Kernels.LowRank.SwiGluDown(gate, up, weight, inner, border, s);
            Kernels.LowRank.Product(inner, weight, biases, y);
        }

        made.Keep();
        if (s is null)
        {
            return Tape.Constant(y);
        }

        Variable output = tape.Record(y, new SwiGluLinearNode(gateUp, s, weight, [.. parts]));
        output.GradientBorder = weight.Border;
        return output;
    }

    private static void FormInner(Tensor gateUp, Tensor inner)
    {
        int columns = inner.Shape[1];
        using Tensor gate = gateUp.Slice(1, 0, columns);
        using Tensor up = gateUp.Slice(1, columns, columns);
        Kernels.SwiGlu.Forward(gate, up, inner);
    }

    private sealed class SwiGluLinearNode : Node
    {
        private readonly Variable _gateUp;
        private readonly BorderedWeight _weight;
        private readonly AdaptedPart[] _parts;
        private readonly Tensor _saved;
        private readonly Tensor _s;

        public SwiGluLinearNode(Variable gateUp, Tensor s, BorderedWeight weight, AdaptedPart[] parts)
        {
            (_gateUp, _weight, _parts) = (gateUp, weight, parts);
            _saved = Save(gateUp.Value);
            _s = Keep(s);
        }

        public override string Name => "swiglu_linear";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient)
        {
            using Tensor dy = gradient.Border >= _weight.Width ? gradient.Share() : WithRoom(gradient, _weight.Border);
            Kernels.LowRank.GradientY(dy, _weight, _s, [.. _parts.Select(static p => OpenForAdd(p.B))]);
            BiasGradients(dy, _weight, _parts);
            using Tensor ds = dy.BorderColumns(_weight.Width);
            Tensor?[] dA = [.. _parts.Select(static p => OpenForAdd(p.A))];
            using Tensor inner = Tensor.Empty([dy.Shape[0], _weight.Inputs], _weight.DType, _weight.Device);
            if (!_gateUp.RequiresGrad)
            {
                FormInner(_saved, inner);
                Kernels.LowRank.GradientX(inner, _weight, ds, dA);
                return;
            }

            Kernels.LowRank.ProductBackward(dy, _weight, inner, 0);
            using var made = new Tentative();
            Tensor whole = made.Add(_gateUp.NewGradient());
            int columns = _weight.Inputs;
            using (Tensor gate = _saved.Slice(1, 0, columns))
            using (Tensor up = _saved.Slice(1, columns, columns))
            using (Tensor dGate = whole.Slice(1, 0, columns))
            using (Tensor dUp = whole.Slice(1, columns, columns))
            {
                Kernels.LowRank.SwiGluBackward(inner, gate, up, _weight, ds, dA, dGate, dUp);
            }

            made.Keep();
            _gateUp.AccumulateGradient(whole);
        }
    }
}
