using Engine.Kernels;

namespace Engine.Autograd.Tests.Gradients;

internal static partial class GradientCases
{
    // Linears with adapters in the border of their weights.
    private static IEnumerable<GradientCase> Adapted()
    {
        foreach (bool transposed in new[] { false, true })
        {
            foreach (bool drops in new[] { false, true })
            {
                string circumstances = $"{(transposed ? "transposed" : "stack")}{(drops ? ", dropout" : "")}";
                yield return AdaptedLinear(circumstances, transposed ? [(9, 3)] : [(9, 3), (5, 0), (7, 9)], transposed, drops);
            }

            yield return AdaptedLinear(transposed ? "transposed" : "", transposed ? [(9, 3)] : [(9, 3), (7, 9)], transposed, drops: false, gated: true);
        }

        // What a block is made of: the border of the norm's result and of the residual's gradient are used.
        yield return new(nameof(Ops.AdaptedLinear), "in a residual branch", d =>
        {
            Variable w = Leaves.Normal(d, [7, 7], 5);
            BorderedWeight weight = BorderedWeight.Create([w.Value], [3], transposed: false);
            weight.TryAssign([3], [0.7f]);
            w.Dispose();
            return new(
                d,
                (t, v) =>
                {
                    Write(weight, v[2], v[3]);
                    using Variable normed = t.RmsNorm(v[0], v[1], 1e-5f, weight.Border);
                    using Variable branch = t.AdaptedLinear(normed, null, weight, [new AdaptedPart(v[2], v[3], null)]);
                    using Variable sum = t.Add(v[0], branch);
                    using Variable second = t.LayerNorm(sum, v[1], null, 1e-5f, weight.Border);
                    using Variable other = t.AdaptedLinear(second, null, weight, [new AdaptedPart(v[2], v[3], null)]);
                    return t.Add(sum, other);
                },
                [Leaves.Normal(d, [5, 7], 1), Leaves.Normal(d, [7], 2), Leaves.Normal(d, [3, 7], 3), Leaves.Normal(d, [7, 3], 4)],
                weight);
        });
    }

    // Leaves: x, or gate and up, then A, B and a bias of each linear that has an adapter.
    private static GradientCase AdaptedLinear(
        string circumstances, (int Outputs, int Rank)[] linears, bool transposed, bool drops, bool gated = false) =>
        new(gated ? nameof(Ops.SwiGluLinear) : nameof(Ops.AdaptedLinear), circumstances, d =>
        {
            const int Rows = 6, Inputs = 7;
            Variable[] frozen = [.. linears.Select((l, i) => Leaves.Normal(d, transposed ? [Inputs, l.Outputs] : [l.Outputs, Inputs], (ulong)(10 + i)))];
            BorderedWeight weight = BorderedWeight.Create(
                [.. frozen.Select(f => f.Value)], [.. linears.Select(l => l.Rank)], transposed);
            weight.TryAssign([.. linears.Select(l => l.Rank)], [.. linears.Select((_, i) => 0.7f + i)]);
            Array.ForEach(frozen, f => f.Dispose());
            var leaves = new List<Variable> { Leaves.Normal(d, [Rows, gated ? 2 * Inputs : Inputs], 1) };
            for (int i = 0; i < linears.Length; i++)
            {
                if (linears[i].Rank > 0)
                {
                    leaves.Add(Leaves.Normal(d, [linears[i].Rank, Inputs], (ulong)(2 + i)));
                    leaves.Add(Leaves.Normal(d, [linears[i].Outputs, linears[i].Rank], (ulong)(5 + i)));
                    leaves.Add(Leaves.Normal(d, [linears[i].Outputs], (ulong)(8 + i)));
                }
            }

            return new(d, (t, v) => Run(t, v), [.. leaves], weight);

            Variable Run(Tape t, Variable[] v)
            {
                var parts = new AdaptedPart[linears.Length];
                var dropped = new Variable?[linears.Length];
                int next = 1;
                using var writer = new BorderWriter();
                for (int i = 0; i < parts.Length; i++)
                {
                    if (linears[i].Rank > 0)
                    {
                        parts[i] = new AdaptedPart(v[next], v[next + 1], v[next + 2]);
                        writer.Add(weight, i, v[next].Value, v[next + 1].Value);
                        next += 3;
                        dropped[i] = drops ? t.Dropout(v[0], 0.3f, new DropoutKey(7, (ulong)i)) : null;
                    }
                }

                writer.Run();
                Variable y = gated ? t.SwiGluLinear(v[0], weight, parts) : t.AdaptedLinear(v[0], drops ? dropped : null, weight, parts);
                Array.ForEach(dropped, x => x?.Dispose());
                return y;
            }
        });

    private static void Write(BorderedWeight weight, Variable a, Variable b)
    {
        using var writer = new BorderWriter();
        writer.Add(weight, 0, a.Value, b.Value);
        writer.Run();
    }
}
