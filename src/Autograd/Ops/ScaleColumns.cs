using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd;

/// <summary>Some columns of <see cref="Ops.ScaleColumns(Tape, Variable, IReadOnlyList{ScaledColumns})"/>.</summary>
/// <param name="Begin">The first of them.</param>
/// <param name="Count">N.</param>
/// <param name="C">Factor [N], or null to keep the columns as they are.</param>
/// <param name="D">Divisor [N], a constant like C; null with <paramref name="C"/>.</param>
/// <param name="Bias">Added afterwards [N], or null.</param>
public readonly record struct ScaledColumns(int Begin, int Count, Variable? C, Tensor? D, Variable? Bias);

public static partial class Ops
{
    /// <summary>
    /// y[r,n] = x[r,n]·c[n]/d[n] (+ bias[n]), with d a constant: DoRA's magnitude over its detached norm.
    /// Shapes: x, y [R,N]; c, d, bias [N]. Backward: dX = dY∘(c/d), dc += (Σ_r dY∘x)/d, dbias += Σ_r dY.
    /// </summary>
    public static Variable ScaleColumns(this Tape tape, Variable x, Variable c, Tensor d, Variable? bias)
    {
        ArgumentNullException.ThrowIfNull(x);
        return ScaleColumns(tape, x, [new ScaledColumns(0, x.Value.Shape[1], c, d, bias)]);
    }

    /// <summary>The same for the columns of several linears side by side, each with its own vectors.</summary>
    public static Variable ScaleColumns(this Tape tape, Variable x, IReadOnlyList<ScaledColumns> parts)
    {
        ArgumentNullException.ThrowIfNull(tape);
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(parts);
        bool needed = tape.Needs(x);
        using var made = new Tentative();
        Tensor y = made.Add(x.Value.EmptyLike());
        var ratios = new Tensor?[parts.Count];
        for (int i = 0; i < ratios.Length; i++)
        {
            (int begin, int count, Variable? c, Tensor? d, Variable? bias) = parts[i];
            needed |= (c is not null && tape.Needs(c)) | (bias is not null && tape.Needs(bias));
            using Tensor from = x.Value.Slice(1, begin, count);
            using Tensor to = y.Slice(1, begin, count);
            if (c is null)
            {
                Copy.Run(from, to);
            }
            else
            {
                ratios[i] = made.Add(Tensor.Empty(c.Value.Shape, c.Value.DType, x.Value.Device));
                Dora.Ratio(c.Value, d!, ratios[i]!);
                Elementwise.ScaleColumns(from, ratios[i]!, to);
            }

            if (bias is not null)
            {
                Elementwise.AddBias(to, bias.Value);
            }
        }

        made.Keep();
        if (needed)
        {
            return tape.Record(y, new ScaleColumnsNode(x, [.. parts], ratios));
        }

        foreach (Tensor? ratio in ratios)
        {
            ratio?.Dispose();
        }

        return Tape.Constant(y);
    }

    private sealed class ScaleColumnsNode : Node
    {
        private readonly Variable _x;
        private readonly ScaledColumns[] _parts;
        private readonly Tensor?[] _ratios;
        private readonly Tensor?[] _divisors;
        private readonly Tensor? _savedX;

        public ScaleColumnsNode(Variable x, ScaledColumns[] parts, Tensor?[] ratios)
        {
            _x = x;
            _parts = parts;
            _ratios = [.. ratios.Select(r => r is null ? null : Keep(r))];
            _divisors = [.. parts.Select(p => p.D is null ? null : Save(p.D))];
            _savedX = Array.Exists(parts, static p => p.C is { RequiresGrad: true }) ? Save(x.Value) : null;
        }

        public override string Name => "scale_columns";

        protected internal override bool TakesGaps => true;

        protected internal override void Backward(Tensor gradient)
        {
            using var made = new Tentative();
            Tensor? dx = _x.RequiresGrad ? made.Add(_x.NewGradient()) : null;
            for (int i = 0; i < _parts.Length; i++)
            {
                ScaledColumns part = _parts[i];
                using Tensor own = gradient.Slice(1, part.Begin, part.Count);
                if (dx is not null)
                {
                    using Tensor to = dx.Slice(1, part.Begin, part.Count);
                    if (_ratios[i] is { } ratio)
                    {
                        Elementwise.ScaleColumns(own, ratio, to);
                    }
                    else
                    {
                        Copy.Run(own, to);
                    }
                }

                if (part.C is { RequiresGrad: true } c)
                {
                    using Tensor x = _savedX!.Slice(1, part.Begin, part.Count);
                    using Tensor product = own.EmptyLike();
                    Elementwise.Multiply(own, x, product);
                    using Tensor sums = _divisors[i]!.ZerosLike();
                    Elementwise.BiasGradient(product, sums);
                    Tensor dc = sums.EmptyLike();
                    Dora.Ratio(sums, _divisors[i]!, dc);
                    c.AccumulateGradient(dc);
                }

                if (part.Bias is { RequiresGrad: true } bias)
                {
                    Elementwise.BiasGradient(own, bias.OpenGradientForAdd());
                }
            }

            made.Keep();
            if (dx is not null)
            {
                _x.AccumulateGradient(dx);
            }
        }
    }
}
