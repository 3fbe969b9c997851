using Engine.Tensors;

namespace Engine.Autograd.Tests.Gradients;

internal static partial class GradientCases
{
    // Rotary positions and attention.
    private static IEnumerable<GradientCase> Heads()
    {
        yield return new(nameof(Ops.Rope), "", d =>
        {
            Tensor cos = Leaves.Of(Table(Math.Cos), [11, 3], d);
            Tensor sin = Leaves.Of(Table(Math.Sin), [11, 3], d);
            Tensor positions = Tensor.From([0, 1, 2, 3, 4, 6, 10, 3, 0, 1], [2, 5], d);

            // In place, so it gets a copy; of the four heads the last one stays as it is.
            return new(
                d,
                (t, v) =>
                {
                    using Variable copy = t.Scale(v[0], 1);
                    return t.Rope(copy, 3, 6, cos, sin, positions);
                },
                [Leaves.Normal(d, [10, 24], 1)],
                cos,
                sin,
                positions);
        });

        int[] causal = Starts(2, 7, (_, _) => 0);
        yield return Attention("heads of their own", 2, 7, 3, 3, 5, causal);
        yield return Attention("grouped", 2, 7, 4, 2, 5, causal);
        yield return Attention("one key head", 2, 7, 4, 1, 6, causal);
        yield return Attention("window 3", 2, 7, 4, 2, 5, Starts(2, 7, (_, i) => Math.Max(0, i - 2)));

        // One key takes the whole weight, whatever q and k are.
        yield return Attention("window 1", 2, 7, 4, 2, 5, Starts(2, 7, (_, i) => i)) with { WithoutInfluence = [0, 1] };
        yield return Attention("packed", 2, 7, 4, 2, 5, [0, 0, 0, 3, 3, 5, 5, 0, 1, 1, 1, 1, 1, 6]);
        yield return Attention("left padding", 2, 7, 4, 2, 5, Starts(2, 7, (b, _) => b == 0 ? 3 : 0));
        yield return Attention("left padding, window 2", 2, 7, 4, 2, 5, Starts(2, 7, (b, i) => Math.Max(b == 0 ? 3 : 0, i - 1)));
        yield return new(nameof(Ops.Attention), "one fused projection", d =>
        {
            Tensor keyStart = Tensor.From(Starts(2, 7, (b, _) => b == 0 ? 3 : 0), [2, 7], d);
            return new(d, (t, v) => t.Attention(v[0], 4, 2, keyStart, 0.6f), [Leaves.Normal(d, [14, 40], 1)], keyStart);
        });

        yield return new(nameof(Ops.Attention), "one fused projection, rotated", d =>
        {
            Tensor keyStart = Tensor.From(Starts(2, 7, (b, _) => b == 0 ? 3 : 0), [2, 7], d);
            Tensor cos = Leaves.Of(Table(Math.Cos), [11, 3], d);
            Tensor sin = Leaves.Of(Table(Math.Sin), [11, 3], d);
            Tensor positions = Tensor.From([0, 0, 0, 0, 1, 2, 3, 0, 1, 2, 3, 4, 6, 10], [2, 7], d);

            // In place, so it gets a copy.
            return new(
                d,
                (t, v) =>
                {
                    using Variable copy = t.Scale(v[0], 1);
                    return t.Attention(copy, 4, 2, keyStart, 0.6f, rotation: new(cos, sin, positions));
                },
                [Leaves.Normal(d, [14, 48], 1)],
                keyStart,
                cos,
                sin,
                positions);
        });

        // Longer than a block of queries or keys.
        yield return Attention("67 tokens", 1, 67, 2, 1, 3, new int[67]);
        yield return Attention("67 tokens, window 20", 1, 67, 2, 1, 3, Starts(1, 67, (_, i) => Math.Max(0, i - 19)));
    }

    private static IEnumerable<GradientCase> Losses()
    {
        yield return new(nameof(Ops.Embedding), "", d =>
        {
            Tensor ids = Tensor.From([3, 1, 3, 0, 5, 3], [6], d);
            return new(d, (t, v) => t.Embedding(ids, v[0]), [Leaves.Normal(d, [6, 5], 1)], ids);
        });
        yield return new(nameof(Ops.GatherRows), "", d =>
        {
            Tensor rows = Tensor.From([4, 0, 6], [3], d);
            return new(d, (t, v) => t.GatherRows(v[0], rows), [Leaves.Normal(d, [7, 5], 1)], rows);
        });
        yield return new(nameof(Ops.GatherRows), "places", d =>
        {
            Tensor rows = Tensor.From([4, 0, 6, -1], [4], d);
            Tensor places = Tensor.From([1, -1, -1, -1, 0, -1, 2], [7], d);
            return new(d, (t, v) => t.GatherRows(v[0], rows, places), [Leaves.Normal(d, [7, 5], 1)], rows, places);
        });
        yield return new(nameof(Ops.CrossEntropy), "", d =>
        {
            Tensor labels = Tensor.From([-100, 3, 0, -100, 10], [5], d);
            Tensor scale = Leaves.Of([0.5], [1], d);
            Tensor losses = Tensor.Empty([5], Leaves.Precision, d);
            return new(
                d, (t, v) => t.CrossEntropy(v[0], labels, scale, losses), [Leaves.Normal(d, [5, 11], 1, 2)], labels, scale, losses);
        });
        yield return new(nameof(Ops.CrossEntropy), "large logits", d =>
        {
            Tensor labels = Tensor.From([52, 3, 0], [3], d);
            Tensor scale = Leaves.Of([0.5], [1], d);
            Tensor losses = Tensor.Empty([3], Leaves.Precision, d);
            return new(
                d, (t, v) => t.CrossEntropy(v[0], labels, scale, losses), [Leaves.Normal(d, [3, 53], 1, 30)], labels, scale, losses);
        });
        yield return HeadCrossEntropy("", 5, 7, 11);
        yield return HeadCrossEntropy("two chunks", Kernels.CrossEntropy.ChunkRows(TestDevice.Current, 5) + 5, 3, 5);

        // One table as embedding and as head: both gradients meet in it.
        yield return new(nameof(Ops.HeadCrossEntropy), "tied, in place", d =>
        {
            Tensor ids = Tensor.From([3, 1, 3, 0, 5, 3], [6], d);
            Tensor labels = Tensor.From([1, 3, -100, 5, 3, 6], [6], d);
            Tensor scale = Leaves.Of([0.5], [1], d);
            Tensor losses = Tensor.Empty([6], Leaves.Precision, d);
            return new(
                d,
                (t, v) =>
                {
                    using Variable x = t.Embedding(ids, v[0]);
                    using Variable bent = t.Silu(x);
                    using Variable used = t.Scale(bent, 1);
                    return t.HeadCrossEntropy(used, v[0], labels, scale, losses, inPlace: true);
                },
                [Leaves.Normal(d, [7, 5], 1)],
                ids,
                labels,
                scale,
                losses);
        });
    }

    private static GradientCase Attention(
        string circumstances, int batch, int length, int heads, int keyHeads, int width, int[] starts) =>
        new(nameof(Ops.Attention), circumstances, d =>
        {
            Tensor keyStart = Tensor.From(starts, [batch, length], d);
            return new(
                d,
                (t, v) => t.Attention(v[0], v[1], v[2], heads, keyHeads, keyStart, 0.6f, border: heads),
                [
                    Leaves.Normal(d, [batch * length, heads * width], 1),
                    Leaves.Normal(d, [batch * length, keyHeads * width], 2),
                    Leaves.Normal(d, [batch * length, keyHeads * width], 3),
                ],
                keyStart);
        });

    private static GradientCase HeadCrossEntropy(string circumstances, int rows, int width, int vocabulary) =>
        new(nameof(Ops.HeadCrossEntropy), circumstances, d =>
        {
            Tensor labels = Tensor.From([.. Enumerable.Range(0, rows).Select(i => i % 4 == 1 ? -100 : i * 3 % vocabulary)], [rows], d);
            Tensor scale = Leaves.Of([0.125], [1], d);
            Tensor losses = Tensor.Empty([rows], Leaves.Precision, d);
            return new(
                d,
                (t, v) => t.HeadCrossEntropy(v[0], v[1], labels, scale, losses),
                [Leaves.Normal(d, [rows, width], 1), Leaves.Normal(d, [vocabulary, width], 2)],
                labels,
                scale,
                losses);
        });

    private static int[] Starts(int batch, int length, Func<int, int, int> start) =>
        [.. Enumerable.Range(0, batch * length).Select(i => start(i / length, i % length))];

    private static double[] Table(Func<double, double> function) =>
        [.. Enumerable.Range(0, 33).Select(i => function(i / 3 * Math.Pow(50, -(i % 3) / 3.0)))];
}
