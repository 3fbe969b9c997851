using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd.Tests.Gradients;

/// <summary>The gradient checks of all ops, sizes small and odd so that vector tails and remainders are met.</summary>
internal static partial class GradientCases
{
    private static readonly Dictionary<string, GradientCase> s_all =
        new[] { Products(), Adapted(), Norms(), Elements(), Heads(), Losses() }.SelectMany(c => c).ToDictionary(c => c.Name);

    public static IReadOnlyDictionary<string, GradientCase> All => s_all;

    private static IEnumerable<GradientCase> Products()
    {
        foreach ((int rows, int inputs, int outputs) in new[] { (5, 7, 3), (19, 37, 13) })
        {
            foreach (bool transposed in new[] { false, true })
            {
                foreach (bool bias in new[] { false, true })
                {
                    yield return new(
                        nameof(Ops.Linear),
                        $"{rows}×{inputs}×{outputs}{(transposed ? ", transposed" : "")}{(bias ? ", bias" : "")}",
                        d =>
                        {
                            Variable x = Leaves.Normal(d, [rows, inputs], 1);
                            Variable w = Leaves.Normal(d, transposed ? [inputs, outputs] : [outputs, inputs], 2);
                            return bias
                                ? new(d, (t, v) => t.Linear(v[0], v[1], v[2], transposed), [x, w, Leaves.Normal(d, [outputs], 3)])
                                : new(d, (t, v) => t.Linear(v[0], v[1], null, transposed), [x, w]);
                        });
                }
            }
        }

        foreach ((bool tanh, bool transposed) in new[] { (false, false), (true, true) })
        {
            yield return new(nameof(Ops.GeluLinear), $"{(tanh ? "tanh" : "erf")}{(transposed ? ", transposed" : "")}", d => new(
                d,
                (t, v) => t.GeluLinear(v[0], tanh, v[1], v[2], transposed),
                [Leaves.Normal(d, [5, 7], 1), Leaves.Normal(d, transposed ? [7, 3] : [3, 7], 2), Leaves.Normal(d, [3], 3)]));
        }

        // LowRank uses its first input up, so it gets a copy; once x feeds both paths, as in a LoRA linear.
        yield return new(nameof(Ops.LowRank), "", d => new(
            d,
            (t, v) =>
            {
                using Variable y = t.Scale(v[0], 1);
                return t.LowRank(y, v[1], v[2], v[3], 1.75f);
            },
            [Leaves.Normal(d, [5, 9], 1), Leaves.Normal(d, [5, 7], 2), Leaves.Normal(d, [3, 7], 3), Leaves.Normal(d, [9, 3], 4)]));
        yield return new(nameof(Ops.LowRank), "beside its linear", d => new(
            d,
            (t, v) =>
            {
                using Variable y = t.Linear(v[0], v[1], null);
                return t.LowRank(y, v[0], v[2], v[3], 0.3f);
            },
            [Leaves.Normal(d, [5, 7], 1), Leaves.Normal(d, [9, 7], 2), Leaves.Normal(d, [3, 7], 3), Leaves.Normal(d, [9, 3], 4)]));
        yield return new(nameof(Ops.GroupedLowRank), "", d => Grouped(d, tokens: 1));
        yield return new(nameof(Ops.GroupedLowRank), "several tokens a row", d => Grouped(d, tokens: 3));
    }

    // Two adapters of different ranks and one without a layer; rows of one adapter apart from each other, and one without any.
    private static GradientProblem Grouped(CountedDevice d, int tokens)
    {
        int[] indices = [2, 0, -1, 0, 1, 2];
        Variable[] inputs =
        [
            Leaves.Normal(d, [indices.Length * tokens, 9], 1), Leaves.Normal(d, [indices.Length * tokens, 7], 2),
            Leaves.Normal(d, [3, 7], 3), Leaves.Normal(d, [9, 3], 4), Leaves.Normal(d, [2, 7], 5), Leaves.Normal(d, [9, 2], 6),
        ];
        var table = AdapterTable.Create(
            [new(inputs[2].Value, inputs[3].Value, 1.75f), null, new(inputs[4].Value, inputs[5].Value, 0.5f)], Leaves.Precision);
        var rows = new AdapterRows(indices, d);

        // Sorted once, before storages are counted.
        using (Tape inference = Tape.Inference())
        {
            Run(inference, inputs).Dispose();
        }

        return new(d, Run, inputs, table, rows);

        Variable Run(Tape tape, Variable[] v)
        {
            using Variable y = tape.Scale(v[0], 1);
            return tape.GroupedLowRank(y, v[1], rows, table, [new(v[2], v[3]), null, new(v[4], v[5])]);
        }
    }

    private static IEnumerable<GradientCase> Norms()
    {
        foreach (int width in new[] { 7, 33 })
        {
            yield return new(nameof(Ops.RmsNorm), $"{width}", d => new(
                d,
                (t, v) => t.RmsNorm(v[0], v[1], 1e-5f),
                [Leaves.Normal(d, [3, width], 1, 1.5f, 0.4), Leaves.Normal(d, [width], 2)]));
            yield return new(nameof(Ops.LayerNorm), $"{width}", d => new(
                d,
                (t, v) => t.LayerNorm(v[0], v[1], null, 1e-5f),
                [Leaves.Normal(d, [3, width], 1, 1.5f, 0.4), Leaves.Normal(d, [width], 2)]));
            yield return new(nameof(Ops.LayerNorm), $"{width}, bias", d => new(
                d,
                (t, v) => t.LayerNorm(v[0], v[1], v[2], 1e-5f),
                [Leaves.Normal(d, [3, width], 1, 1.5f, 0.4), Leaves.Normal(d, [width], 2), Leaves.Normal(d, [width], 3)]));
            yield return new(nameof(Ops.AddRmsNorm), $"{width}", d => new(
                d,
                (t, v) => Joined(t, t.AddRmsNorm(v[0], v[1], v[2], 1e-5f)),
                [Leaves.Normal(d, [3, width], 1, 1.5f, 0.4), Leaves.Normal(d, [3, width], 2), Leaves.Normal(d, [width], 3)]));
            yield return new(nameof(Ops.AddRmsNorm), $"{width}, the sum not used", d => new(
                d,
                (t, v) => Second(t.AddRmsNorm(v[0], v[1], v[2], 1e-5f)),
                [Leaves.Normal(d, [3, width], 1, 1.5f, 0.4), Leaves.Normal(d, [3, width], 2), Leaves.Normal(d, [width], 3)]));
            yield return new(nameof(Ops.AddLayerNorm), $"{width}", d => new(
                d,
                (t, v) => Joined(t, t.AddLayerNorm(v[0], v[1], v[2], null, 1e-5f)),
                [Leaves.Normal(d, [3, width], 1, 1.5f, 0.4), Leaves.Normal(d, [3, width], 2), Leaves.Normal(d, [width], 3)]));
            yield return new(nameof(Ops.AddLayerNorm), $"{width}, bias", d => new(
                d,
                (t, v) => Joined(t, t.AddLayerNorm(v[0], v[1], v[2], v[3], 1e-5f)),
                [
                    Leaves.Normal(d, [3, width], 1, 1.5f, 0.4), Leaves.Normal(d, [3, width], 2),
                    Leaves.Normal(d, [width], 3), Leaves.Normal(d, [width], 4),
                ]));
        }
    }

    // Both results of an addition with a norm, as a layer uses them: the norm's goes through a branch that is added to the sum.
    private static Variable Joined(Tape tape, (Variable Sum, Variable Normed) results)
    {
        using Variable sum = results.Sum;
        using Variable normed = results.Normed;
        using Variable branch = tape.Silu(normed);
        return tape.Add(sum, branch);
    }

    private static Variable Second((Variable Sum, Variable Normed) results)
    {
        results.Sum.Dispose();
        return results.Normed;
    }

    private static IEnumerable<GradientCase> Elements()
    {
        yield return Unary(nameof(Ops.Gelu), "erf", (t, x) => t.Gelu(x, tanh: false));
        yield return Unary(nameof(Ops.Gelu), "tanh", (t, x) => t.Gelu(x, tanh: true));
        yield return Unary(nameof(Ops.Silu), "", (t, x) => t.Silu(x));
        yield return Unary(nameof(Ops.Scale), "", (t, x) => t.Scale(x, -0.7f));
        yield return Unary(nameof(Ops.Dropout), "", (t, x) => t.Dropout(x, 0.3f, new DropoutKey(11, 5)));
        yield return Unary(nameof(Ops.Reshape), "", (t, x) =>
        {
            using Variable bent = t.Reshape(x, 3, 15);
            return t.Silu(bent);
        });
        yield return new(nameof(Ops.SwiGlu), "", d => new(d, (t, v) => t.SwiGlu(v[0]), [Leaves.Normal(d, [5, 18], 1, 2)]));
        yield return new(nameof(Ops.SwiGlu), "with a border", d => new(d, (t, v) => t.SwiGlu(v[0], 3), [Leaves.Normal(d, [5, 18], 1, 2)]));
        yield return Unary(nameof(Ops.Same), "", (t, x) => t.Same(x));
        yield return Unary(nameof(Ops.Columns), "", (t, x) => t.Columns(x, 2, 4));
        yield return new(nameof(Ops.JoinColumns), "", d => new(
            d, (t, v) => t.JoinColumns([v[0], v[1]]), [Leaves.Normal(d, [5, 9], 1), Leaves.Normal(d, [5, 4], 2)]));
        yield return Unary(nameof(Ops.JoinColumns), "of one variable", (t, x) =>
        {
            using Variable pair = t.JoinColumns([x, x]);
            return t.SwiGlu(pair);
        });
        yield return new(nameof(Ops.Add), "", d => new(
            d, (t, v) => t.Add(v[0], v[1]), [Leaves.Normal(d, [5, 9], 1), Leaves.Normal(d, [5, 9], 2)]));
        yield return Unary(nameof(Ops.Add), "of one variable", (t, x) => t.Add(x, x));
        yield return Unary(nameof(Ops.Add), "residuals", (t, x) =>
        {
            using Variable branch = t.Silu(x);
            using Variable sum = t.Add(x, branch);
            using Variable second = t.Gelu(sum, tanh: true);
            return t.Add(sum, second);
        });
        foreach (bool bias in new[] { false, true })
        {
            yield return new(nameof(Ops.ScaleColumns), bias ? "bias" : "", d =>
            {
                Tensor norm = Leaves.Of(Array.ConvertAll(Leaves.Values(9, 4), x => 0.5 + Math.Abs(x)), [9], d);
                Variable x = Leaves.Normal(d, [5, 9], 1);
                Variable c = Leaves.Normal(d, [9], 2);
                return bias
                    ? new(d, (t, v) => t.ScaleColumns(v[0], v[1], norm, v[2]), [x, c, Leaves.Normal(d, [9], 3)], norm)
                    : new(d, (t, v) => t.ScaleColumns(v[0], v[1], norm, null), [x, c], norm);
            });
        }

        yield return new(nameof(Ops.ScaleColumns), "of several linears", d =>
        {
            Tensor norm = Leaves.Of(Array.ConvertAll(Leaves.Values(4, 4), x => 0.5 + Math.Abs(x)), [4], d);
            return new(
                d,
                (t, v) => t.ScaleColumns(v[0], [new(0, 4, v[1], norm, v[2]), new(4, 3, null, null, v[3]), new(7, 2, null, null, null)]),
                [Leaves.Normal(d, [5, 9], 1), Leaves.Normal(d, [4], 2), Leaves.Normal(d, [4], 3), Leaves.Normal(d, [3], 5)],
                norm);
        });

        yield return new(nameof(Ops.Checkpoint), "", d => new(
            d,
            (t, v) => t.Checkpoint(v[0], (inner, x) =>
            {
                using Variable projected = inner.Linear(x, v[1], null);
                using Variable dropped = inner.Dropout(projected, 0.3f, new DropoutKey(3, 1));
                using Variable bent = inner.Silu(dropped);
                return inner.Add(x, bent);
            }),
            [Leaves.Normal(d, [5, 7], 1), Leaves.Normal(d, [7, 7], 2)]));
    }

    private static GradientCase Unary(string op, string circumstances, Func<Tape, Variable, Variable> function) =>
        new(op, circumstances, d => new(d, (t, v) => function(t, v[0]), [Leaves.Normal(d, [5, 9], 1, 2)]));
}
