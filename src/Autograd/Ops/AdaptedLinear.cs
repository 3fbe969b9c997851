using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

/// <summary>What one linear of an adapted stack trains.</summary>
/// <param name="A">Down-projection [r,K], or null without an adapter.</param>
/// <param name="B">Up-projection [N,r], or null.</param>
/// <param name="Bias">[N], or null.</param>
public readonly record struct AdaptedPart(Variable? A, Variable? B, Variable? Bias);

public static partial class Ops
{
    /// <summary>
    /// One or several linears of one input, each with or without an adapter: y_i = x·W_iᵀ + b_i + s_i·(x_i·A_iᵀ)·B_iᵀ, side by side
    /// in y [R, ΣN]. Shapes: x and x_i [R,K]. The frozen weights and the operands' copies of A and B are in
    /// <paramref name="weight"/>; A and B of <paramref name="parts"/> receive the gradients. x_i is x, or x with elements dropped.
    /// Source: Hu et al., LoRA, §4.1. With S = s·x·Aᵀ beside x and dS = s·dY·B beside dY: dX = [dY dS]·[W;A], dB += dYᵀ·S,
    /// dA += dSᵀ·x; with dropout dX = dY·W and dX_i = dS_i·A_i. Kept are S and x, or S alone where x is a recorded norm's result:
    /// the norm's backward keeps what <see cref="Kernels.LowRank.GradientNormed"/> makes dA from.
    /// </summary>
    /// <param name="tape">Records, or not.</param>
    /// <param name="x">The input; where it has a border (<see cref="Tensor.Border"/>) that nobody uses, S goes there without a copy.</param>
    /// <param name="dropped">x_i for each linear that has an adapter, or null when they are x.</param>
    /// <param name="weight">The stack.</param>
    /// <param name="parts">One for each of its linears.</param>
    public static Variable AdaptedLinear(
        this Tape tape, Variable x, IReadOnlyList<Variable?>? dropped, BorderedWeight weight, IReadOnlyList<AdaptedPart> parts)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(parts);
        bool needed = Needed(tape, x, parts);
        using var made = new Tentative();
        Tensor?[] biases = [.. parts.Select(static p => p.Bias?.Value)];
        Tensor y = made.Add(Tensor.Empty([x.Value.Shape[0], weight.Outputs], weight.DType, weight.Device));

        if (!needed && !Trains(x, parts) && dropped is null && Kernels.LowRank.TryDecode(x.Value, weight, biases, y))
        {
            made.Keep();
            return Tape.Constant(y);
        }

        Tensor input = made.Add(x.ClaimBorder(weight.Width) ? x.Value.Share() : WithRoom(x.Value, weight.Border));
        Tensor? narrow = needed && dropped is null && x.Source is not null ? made.Add(EmptyOfS(input, weight)) : null;
        using (Tensor s = input.BorderColumns(weight.Width))
        {
            if (dropped is null)
            {
                Kernels.LowRank.Down(input, weight, s, copy: narrow);
            }

            for (int i = 0; i < dropped?.Count; i++)
            {
                if (dropped[i] is { } own)
                {
                    needed |= tape.Needs(own);
                    Kernels.LowRank.Down(own.Value, weight, s, i);
                }
            }
        }

        Kernels.LowRank.Product(input, weight, biases, y);
        made.Keep();
        if (!needed || narrow is not null)
        {
            input.Dispose();
        }

        if (!needed)
        {
            return Tape.Constant(y);
        }

        AdaptedLinearNode node = narrow is null
            ? new(x, dropped is null ? null : [.. dropped], input, weight, [.. parts])
            : new(x, x.Source!.Input, narrow, weight, [.. parts]);
        Variable result = tape.Record(y, node);
        result.GradientBorder = weight.Border;
        return result;
    }

    // Asks about every input.
    private static bool Needed(Tape tape, Variable x, IReadOnlyList<AdaptedPart> parts)
    {
        bool needed = tape.Needs(x);
        foreach (AdaptedPart part in parts)
        {
            needed |= (part.A is not null && tape.Needs(part.A, part.B, part.Bias)) || (part.Bias is not null && tape.Needs(part.Bias));
        }

        return needed;
    }

    // What trains is computed one way only: a checkpointed block's run without a tape has to have the bits of the one with.
    private static bool Trains(Variable x, IReadOnlyList<AdaptedPart> parts) =>
        x.RequiresGrad || parts.Any(static p => p.A is { RequiresGrad: true } || p.B is { RequiresGrad: true });

    private static Tensor? OpenForAdd(Variable? variable) => variable is { RequiresGrad: true } ? variable.OpenGradientForAdd() : null;

    private static void BiasGradients(Tensor dy, BorderedWeight weight, AdaptedPart[] parts)
    {
        for (int i = 0; i < parts.Length; i++)
        {
            if (parts[i].Bias is { RequiresGrad: true } bias)
            {
                BorderSlot slot = weight.Slots[i];
                using Tensor columns = dy.Slice(1, slot.Begin, slot.Outputs);
                Elementwise.BiasGradient(columns, bias.OpenGradientForAdd());
            }
        }
    }

    // For S by itself.
    private static Tensor EmptyOfS(Tensor input, BorderedWeight weight) =>
        Tensor.Empty([input.Shape[0], weight.Width], weight.DType, weight.Device);

    private static Tensor WithRoom(Tensor matrix, int border)
    {
        using var made = new Tentative();
        Tensor copy = made.Add(Tensor.EmptyBordered(matrix.Shape, border, matrix.DType, matrix.Device));
        Copy.Run(matrix, copy);
        made.Keep();
        return copy;
    }

    private sealed class AdaptedLinearNode : Node
    {
        private readonly Variable _x;
        private readonly Variable?[]? _dropped;
        private readonly BorderedWeight _weight;
        private readonly AdaptedPart[] _parts;
        private readonly Tensor? _input;
        private readonly Tensor? _s;
        private readonly NormedInput? _normed;
        private readonly Tensor?[]? _savedDropped;

        // Takes over the input with S in its border.
        public AdaptedLinearNode(Variable x, Variable?[]? dropped, Tensor input, BorderedWeight weight, AdaptedPart[] parts)
        {
            (_x, _dropped, _weight, _parts) = (x, dropped, weight, parts);
            _input = Keep(input);
            _savedDropped = dropped is null ? null : [.. dropped.Select(d => d is null ? null : Save(d.Value))];
        }

        // Takes S over, and shares of what x is made from.
        public AdaptedLinearNode(Variable x, NormedInput normed, Tensor s, BorderedWeight weight, AdaptedPart[] parts)
        {
            (_x, _weight, _parts) = (x, weight, parts);
            _s = Keep(s);
            _normed = NormedSource.Map(normed, Save);
        }

        public override string Name => "adapted_linear";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient)
        {
            using Tensor dy = gradient.Border >= _weight.Width ? gradient.Share() : WithRoom(gradient, _weight.Border);
            using ScaledGradient? scaled = BackwardOfUp(dy);

            if (_x.RequiresGrad)
            {
                Tensor dx = _x.OpenGradient(out bool fresh);
                Kernels.LowRank.ProductBackward(dy, _weight, dx, fresh ? 0 : 1, withBorder: _dropped is null);
            }

            using (Tensor ds = dy.BorderColumns(_weight.Width))
            {
                if (_normed is { } normed)
                {
                    Kernels.LowRank.GradientNormed(normed, _weight, ds, [.. _parts.Select(static p => OpenForAdd(p.A))], scaled);
                }
                else if (_dropped is null)
                {
                    Kernels.LowRank.GradientX(_input!, _weight, ds, [.. _parts.Select(static p => OpenForAdd(p.A))]);
                }
                else
                {
                    BackwardOfDropped(dy, ds);
                }
            }

            BiasGradients(dy, _weight, _parts);
        }

        private ScaledGradient? BackwardOfUp(Tensor dy)
        {
            using Tensor s = _s?.Share() ?? _input!.BorderColumns(_weight.Width);
            Tensor?[] dB = [.. _parts.Select(static p => OpenForAdd(p.B))];
            if (_normed is { } normed && _parts.Any(static p => p.A is { RequiresGrad: true }))
            {
                return Kernels.LowRank.GradientYNormed(dy, _weight, s, dB, normed);
            }

            Kernels.LowRank.GradientY(dy, _weight, s, dB);
            return null;
        }

        private void BackwardOfDropped(Tensor dy, Tensor ds)
        {
            for (int i = 0; i < _parts.Length; i++)
            {
                if (_dropped![i] is not { } own)
                {
                    continue;
                }

                if (own.RequiresGrad)
                {
                    Tensor branch = own.OpenGradient(out bool fresh);
                    Kernels.LowRank.BranchBackward(dy, _weight, i, branch, fresh ? 0 : 1);
                }

                var wanted = new Tensor?[_parts.Length];
                wanted[i] = OpenForAdd(_parts[i].A);
                Kernels.LowRank.GradientX(_savedDropped![i]!, _weight, ds, wanted);
            }
        }
    }
}
