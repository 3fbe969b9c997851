using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

/// <summary>One adapter's A and B in a linear, as the tape trains them.</summary>
/// <param name="A">Down-projection [r, K].</param>
/// <param name="B">Up-projection [N, r].</param>
public readonly record struct LowRankFactors(Variable A, Variable B);

public static partial class Ops
{
    /// <summary>
    /// y[i] ← y[i] + s·(x[i]·Aᵀ)·Bᵀ with the adapter of row i, in place in <paramref name="y"/>, which is used up (the result
    /// takes its tensor over). Rows without an adapter keep y. Shapes: x [R,K], A [r,K], B [N,r], y [R,N].
    /// Backward for each adapter over its rows, with S = s·x·Aᵀ saved and dS = s·dY·B: dB += dYᵀ·S, dA += dSᵀ·x; dX += dS·A by
    /// rows, dY passes through.
    /// </summary>
    /// <param name="tape">The tape.</param>
    /// <param name="y">Used up.</param>
    /// <param name="x">The linear's input.</param>
    /// <param name="rows">Each row's adapter; lives until backward has run.</param>
    /// <param name="table">The adapters, of these factors' values; lives until backward has run.</param>
    /// <param name="factors">The table's adapters, null where it has none; each variable once.</param>
    public static Variable GroupedLowRank(
        this Tape tape, Variable y, Variable x, AdapterRows rows, AdapterTable table, IReadOnlyList<LowRankFactors?> factors)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(y);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(factors);
        bool needed = tape.Needs(y, x);
        for (int i = 0; i < factors.Count; i++)
        {
            needed |= factors[i] is { } pair && tape.Needs(pair.A, pair.B);
        }

        using var made = new Tentative();
        Tensor? saved = needed ? made.Add(Kernels.GroupedLowRank.CreateSaved(x.Value, rows, table)) : null;
        Tensor result = made.Add(y.Value.Share());
        Kernels.GroupedLowRank.Forward(x.Value, rows, table, result, saved);
        made.Keep();
        return needed
            ? tape.Record(result, new GroupedLowRankNode(y, x, rows, table, factors, saved!))
            : Tape.Constant(result);
    }

    private sealed class GroupedLowRankNode : Node
    {
        private readonly Variable _y;
        private readonly Variable _x;
        private readonly AdapterRows _rows;
        private readonly AdapterTable _table;
        private readonly IReadOnlyList<LowRankFactors?> _factors;
        private readonly Tensor _savedX;
        private readonly Tensor _sums;

        public GroupedLowRankNode(
            Variable y, Variable x, AdapterRows rows, AdapterTable table, IReadOnlyList<LowRankFactors?> factors, Tensor sums)
        {
            _y = y;
            _x = x;
            _rows = rows;
            _table = table;
            _factors = factors;
            _savedX = Save(x.Value);
            _sums = Keep(sums);
        }

        public override string Name => "grouped_low_rank";

        protected internal override void Backward(Tensor gradient)
        {
            bool fresh = false;
            Tensor? dx = _x.RequiresGrad ? _x.OpenGradient(out fresh) : null;
            var gradients = new GroupedGradient[_factors.Count];
            bool any = false;
            for (int i = 0; i < gradients.Length; i++)
            {
                if (_factors[i] is { } pair)
                {
                    gradients[i] = new GroupedGradient(
                        pair.A.RequiresGrad ? pair.A.OpenGradientForAdd() : null, pair.B.RequiresGrad ? pair.B.OpenGradientForAdd() : null);
                    any |= pair.A.RequiresGrad || pair.B.RequiresGrad;
                }
            }

            if (dx is not null || any)
            {
                Kernels.GroupedLowRank.Backward(gradient, _savedX, _rows, _table, _sums, dx, any ? gradients : default, setX: fresh);
            }

            _y.AccumulateGradient(gradient.Share());
        }
    }
}
