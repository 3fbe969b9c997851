using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Cli.Bench;

/// <summary>Matrix products, the low-rank paths and the merge.</summary>
internal static class ProductBenches
{
    private const string Product = "m×n×k";
    private const string Low = "rows×inputs×outputs×rank";
    private const string Grouped = "batch×tokens×inputs×outputs×rank×adapters";
    private const string Adapted = "outputs×inputs×rank";
    private const string Layers = "layers×outputs×inputs×rank";

    private static readonly int[] s_product = [8192, 4096, 4096];
    private static readonly int[] s_low = [8192, 4096, 4096, 16];
    private static readonly int[] s_grouped = [64, 1, 4096, 4096, 16, 64];
    private static readonly int[] s_adapted = [4096, 4096, 16];
    private static readonly int[] s_layers = [32, 4096, 4096, 16];

    public static IReadOnlyList<OpBench> All { get; } =
    [
        new("matmul", Product, s_product, Case, (make, e, t) => Multiply(make, [e[0], e[2]], false, [e[1], e[2]], true, e, t)),
        new("matmul-nn", Product, s_product, Case, (make, e, t) => Multiply(make, [e[0], e[2]], false, [e[2], e[1]], false, e, t)),
        new("matmul-tn", Product, s_product, Case, (make, e, t) => Multiply(make, [e[2], e[0]], true, [e[2], e[1]], false, e, t)),
        new("lowrank", Low, s_low, (e, t) => new LowRankCase(e[0], e[1], e[2], e[3], t, false), (make, e, t) =>
        {
            (Tensor x, Tensor a, Tensor b) = (make.Normal([e[0], e[1]], t), make.Normal([e[3], e[1]], t), make.Normal([e[2], e[3]], t));
            (Tensor y, Tensor s) = (make.Normal([e[0], e[2]], t), make.Empty([e[0], e[3]], DType.F32));
            return () => LowRank.Forward(x, a, b, 1e-3f, y, s);
        }),
        new("lowrank-bwd", Low, s_low, (e, t) => new LowRankCase(e[0], e[1], e[2], e[3], t, true), (make, e, t) =>
        {
            (Tensor x, Tensor a, Tensor b) = (make.Normal([e[0], e[1]], t), make.Normal([e[3], e[1]], t), make.Normal([e[2], e[3]], t));
            (Tensor dy, Tensor s) = (make.Normal([e[0], e[2]], t), make.Normal([e[0], e[3]], DType.F32));
            (Tensor dx, Tensor dA, Tensor dB) = (make.Zeros([e[0], e[1]], t), make.Zeros([e[3], e[1]], t), make.Zeros([e[2], e[3]], t));
            return () => LowRank.Backward(dy, x, a, b, s, 1e-3f, dx, dA, dB);
        }),
        new("gelu-linear-bwd", "rows×inputs×outputs", [8192, 4096, 1024], (e, t) => new GeluLinearCase(e[0], e[1], e[2], t), (make, e, t) =>
        {
            Tensor dy = make.Normal([e[0], e[2]], t);
            Tensor x = make.Normal([e[0], e[1]], t);
            Tensor w = make.Normal([e[1], e[2]], t);
            Tensor dx = make.Empty([e[0], e[1]], t);
            return () => GeluLinear.Backward(dy, x, tanh: true, w, transposed: true, dx);
        }),
        Pass("lowrank-down", LowRankPass.Down),
        Pass("lowrank-grad-y", LowRankPass.GradientY),
        Pass("lowrank-grad-x", LowRankPass.GradientX),
        new("lowrank-swiglu-fwd", "rows×columns×rank", [8192, 8192, 16], (e, t) => new LowRankSwiGluDownCase(e[0], e[1], e[2], t), (make, e, t) =>
        {
            BorderedWeight weight = Bordered(make, 64, e[1], e[2], t);
            Tensor h = make.Normal([e[0], 2 * e[1]], t);
            Tensor y = make.Own(Tensor.EmptyBordered([e[0], e[1]], weight.Border, t, make.Device));
            (Tensor gate, Tensor up) = (make.Own(h.Slice(1, 0, e[1])), make.Own(h.Slice(1, e[1], e[1])));
            Tensor s = make.Own(y.BorderColumns(weight.Width));
            return () => LowRank.SwiGluDown(gate, up, weight, y, s);
        }),
        new("lowrank-swiglu-bwd", "rows×columns×rank", [8192, 8192, 16], (e, t) => new LowRankSwiGluCase(e[0], e[1], e[2], t), (make, e, t) =>
        {
            BorderedWeight weight = Bordered(make, 64, e[1], e[2], t);
            (Tensor h, Tensor dInner) = (make.Normal([e[0], 2 * e[1]], t), make.Normal([e[0], e[1]], t));
            (Tensor ds, Tensor dA) = (make.Normal([e[0], weight.Width], t), make.Zeros([e[2], e[1]], DType.F32));
            Tensor dh = make.Empty([e[0], 2 * e[1]], t);
            (Tensor gate, Tensor up) = (make.Own(h.Slice(1, 0, e[1])), make.Own(h.Slice(1, e[1], e[1])));
            (Tensor dGate, Tensor dUp) = (make.Own(dh.Slice(1, 0, e[1])), make.Own(dh.Slice(1, e[1], e[1])));
            return () => LowRank.SwiGluBackward(dInner, gate, up, weight, ds, [dA], dGate, dUp);
        }),
        Normed("lowrank-rmsnorm-grad-x", centered: false),
        Normed("lowrank-layernorm-grad-x", centered: true),
        new("grouped", Grouped, s_grouped, (e, t) => GroupedCase(e, t, false), (make, e, t) =>
        {
            (AdapterTable table, AdapterRows rows) = Adapters(make, e, t);
            (Tensor x, Tensor y) = (make.Normal([e[0] * e[1], e[2]], t), make.Normal([e[0] * e[1], e[3]], t));
            return () => GroupedLowRank.Forward(x, rows, table, y);
        }),
        new("grouped-bwd", Grouped, [16, 256, 4096, 4096, 16, 4], (e, t) => GroupedCase(e, t, true), (make, e, t) =>
        {
            (AdapterTable table, AdapterRows rows) = Adapters(make, e, t);
            (Tensor x, Tensor dy, Tensor dx) = (
                make.Normal([e[0] * e[1], e[2]], t), make.Normal([e[0] * e[1], e[3]], t), make.Zeros([e[0] * e[1], e[2]], t));
            Tensor saved = make.Own(GroupedLowRank.CreateSaved(x, rows, table));
            GroupedGradient[] gradients = [.. Enumerable.Range(0, e[5]).Select(_ =>
                new GroupedGradient(make.Zeros([e[4], e[2]], DType.F32), make.Zeros([e[3], e[4]], DType.F32)))];
            GroupedLowRank.Forward(x, rows, table, dy, saved);
            return () => GroupedLowRank.Backward(dy, x, rows, table, saved, dx, gradients);
        }),
        new("gemv", Low, [1, 4096, 4096, 16], (e, t) => new GemvCase(e[0], e[1], e[2], e[3], t), (make, e, t) =>
        {
            (Tensor x, Tensor w, Tensor bias) = (make.Normal([e[0], e[1]], t), make.Normal([e[2], e[1]], t), make.Normal([e[2]], t));
            (Tensor a, Tensor b, Tensor y) = (make.Normal([e[3], e[1]], t), make.Normal([e[2], e[3]], t), make.Empty([e[0], e[2]], t));
            return () => Gemv.Run(x, w, bias, a, b, 1e-3f, y);
        }),
        new("merge", Adapted, s_adapted, (e, t) => Merged(e, t, MergeCall.Apply), (make, e, t) =>
        {
            MergeTarget[] targets = Targets(make, 1, e, t, 1e-3f);
            return () => Merge.Apply(targets);
        }),
        new("merge-layers", Layers, s_layers, (e, t) => new MergeCase(e[1], e[2], e[3], t, e[0]), (make, e, t) =>
        {
            MergeTarget[] targets = Targets(make, e[0], e[1..], t, 1e-3f);
            return () => Merge.Apply(targets);
        }),
        new("merge-exact", Adapted, s_adapted, (e, t) => Merged(e, t, MergeCall.ApplyExact), MergeExactly(1)),
        new(
            "merge-exact-layers", Layers, s_layers,
            (e, t) => new MergeCase(e[1], e[2], e[3], t, e[0], MergeCall.ApplyExact),
            (make, e, t) => MergeExactly(e[0])(make, e[1..], t)),
        new("unmerge", Adapted, s_adapted, (e, t) => Merged(e, t, MergeCall.Undo), (make, e, t) =>
        {
            // The first call gives the matrix its bits back; what later ones make of it costs the same.
            MergeTarget[] targets = Targets(make, 1, e, t, Tenth(e[2]));
            MergeCorrections corrections = make.Own(Merge.ApplyExact(targets));
            return () => Merge.Undo(targets, corrections);
        }),
        new("merge-report", Adapted, s_adapted, (e, t) => Merged(e, t, MergeCall.Report), (make, e, t) =>
        {
            MergeTarget[] targets = Targets(make, 1, e, t, Tenth(e[2]));
            return () => Merge.Report(targets);
        }),
        new("dora", Adapted, s_adapted, (e, t) => new DoraCase(e[0], e[1], e[2], t), (make, e, t) =>
        {
            (Tensor w, Tensor a, Tensor b) = (make.Normal([e[0], e[1]], t), make.Normal([e[2], e[1]], DType.F32), make.Normal([e[0], e[2]], DType.F32));
            Tensor norm = make.Empty([e[0]], DType.F32);
            return () => Dora.WeightNorm(w, a, b, 1e-3f, transposed: false, norm);
        }),
    ];

    // One pass over [rows, columns]; the frozen weight beside the adapter is square, and only its border is read.
    private static OpBench Pass(string name, LowRankPass pass) => new(
        name, "rows×columns×rank", [8192, 4096, 16], (e, t) => new LowRankPassCase(pass, e[0], e[1], e[2], t), (make, e, t) =>
        {
            Tensor values = make.Normal([e[0], e[1]], t);
            BorderedWeight weight = Bordered(make, e[1], e[1], e[2], t);
            Tensor operand = make.Own(Tensor.EmptyBordered(values.Shape, weight.Border, t, make.Device));
            Copy.Run(values, operand);
            Tensor narrow = make.Own(operand.BorderColumns(weight.Width));
            Tensor s = make.Normal([e[0], weight.Width], t);
            Tensor gradient = make.Zeros(pass == LowRankPass.GradientY ? [e[1], e[2]] : [e[2], e[1]], DType.F32);
            return pass switch
            {
                LowRankPass.Down => () => LowRank.Down(operand, weight, narrow),
                LowRankPass.GradientY => () => LowRank.GradientY(operand, weight, s, [gradient]),
                _ => () => LowRank.GradientX(operand, weight, s, [gradient]),
            };
        });

    // lowrank-grad-x behind a norm, from the norm's input.
    private static OpBench Normed(string name, bool centered) => new(
        name, "rows×columns×rank", [8192, 4096, 16], (e, t) => new LowRankNormedCase(e[0], e[1], e[2], t, centered), (make, e, t) =>
        {
            (Tensor x, Tensor w) = (make.Normal([e[0], e[1]], t), make.Normal([e[1]], t));
            (Tensor mean, Tensor rstd) = (make.Normal([e[0]], DType.F32), make.Normal([e[0]], DType.F32));
            NormedInput input = centered ? new(x, w, make.Normal([e[1]], t), mean, rstd, 1e-5f) : new(x, w, null, null, rstd, 1e-5f);
            BorderedWeight weight = Bordered(make, 64, e[1], e[2], t);
            (Tensor ds, Tensor dA) = (make.Normal([e[0], weight.Width], t), make.Zeros([e[2], e[1]], DType.F32));
            return () => LowRank.GradientNormed(input, weight, ds, [dA]);
        });

    // Zeros with an adapter in their border.
    private static BorderedWeight Bordered(BenchTensors make, int outputs, int inputs, int rank, DType dtype)
    {
        using Tensor frozen = Tensor.Zeros([outputs, inputs], dtype, make.Device);
        BorderedWeight weight = make.Own(BorderedWeight.Create([frozen], [rank], transposed: false));
        weight.TryAssign([rank], [1e-3f]);
        using var writer = new BorderWriter();
        writer.Add(weight, 0, make.Normal([rank, inputs], DType.F32), make.Normal([outputs, rank], DType.F32));
        writer.Run();
        return weight;
    }

    private static MergeCase Merged(int[] e, DType dtype, MergeCall call) => new(e[0], e[1], e[2], dtype, 1, call);

    // A scale that makes Δ of normal A and B a tenth of W, as a trained adapter's may be.
    private static float Tenth(int rank) => 0.1f / MathF.Sqrt(rank);

    private static MergeTarget[] Targets(BenchTensors make, int count, int[] e, DType dtype, float scale)
    {
        var targets = new MergeTarget[count];
        for (int i = 0; i < count; i++)
        {
            Tensor w = make.Normal([e[0], e[1]], dtype);
            targets[i] = new MergeTarget(w, [new(make.Normal([e[2], e[1]], dtype), make.Normal([e[0], e[2]], dtype), scale)], false);
        }

        return targets;
    }

    // Every other call merges −Δ: the matrices stay what they are, and with them the number of records.
    private static Func<BenchTensors, int[], DType, Action> MergeExactly(int count) => (make, e, t) =>
    {
        MergeTarget[] plus = Targets(make, count, e, t, Tenth(e[2]));
        MergeTarget[] minus = [.. plus.Select(p => p with { Terms = [p.Terms[0] with { Scale = -p.Terms[0].Scale }] })];
        bool back = false;
        return () =>
        {
            Merge.ApplyExact(back ? minus : plus).Dispose();
            back = !back;
        };
    };

    private static GroupedLowRankCase GroupedCase(int[] e, DType dtype, bool backward) =>
        new(e[0] * e[1], e[2], e[3], e[4], Math.Min(e[5], e[0]), dtype, backward);

    // Rows use the adapters in turn.
    private static (AdapterTable Table, AdapterRows Rows) Adapters(BenchTensors make, int[] e, DType dtype)
    {
        GroupedAdapter?[] adapters = [.. Enumerable.Range(0, e[5]).Select(_ => (GroupedAdapter?)new GroupedAdapter(
            make.Normal([e[4], e[2]], DType.F32), make.Normal([e[3], e[4]], DType.F32), 1e-3f))];
        var rows = new AdapterRows([.. Enumerable.Range(0, e[0]).Select(i => i % e[5])], make.Device);
        return (make.Own(AdapterTable.Create(adapters, dtype)), make.Own(rows));
    }

    private static MatMulCase Case(int[] e, DType dtype) => new(e[0], e[1], e[2], dtype);

    private static Action Multiply(BenchTensors make, Shape left, bool transA, Shape right, bool transB, int[] e, DType dtype)
    {
        (Tensor a, Tensor b, Tensor c) = (make.Normal(left, dtype), make.Normal(right, dtype), make.Empty([e[0], e[1]], dtype));
        return () => MatMul.Run(a, transA, b, transB, c);
    }
}
