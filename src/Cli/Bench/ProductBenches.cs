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

    private static readonly int[] s_product = [8192, 4096, 4096];
    private static readonly int[] s_low = [8192, 4096, 4096, 16];
    private static readonly int[] s_grouped = [64, 1, 4096, 4096, 16, 64];
    private static readonly int[] s_adapted = [4096, 4096, 16];

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
        new("merge", Adapted, s_adapted, (e, t) => new MergeCase(e[0], e[1], e[2], t), (make, e, t) =>
        {
            (Tensor w, Tensor a, Tensor b) = (make.Normal([e[0], e[1]], t), make.Normal([e[2], e[1]], t), make.Normal([e[0], e[2]], t));
            return () => Merge.Apply(w, a, b, 1e-3f, transposed: false);
        }),
        new("dora", Adapted, s_adapted, (e, t) => new DoraCase(e[0], e[1], e[2], t), (make, e, t) =>
        {
            (Tensor w, Tensor a, Tensor b) = (make.Normal([e[0], e[1]], t), make.Normal([e[2], e[1]], DType.F32), make.Normal([e[0], e[2]], DType.F32));
            Tensor norm = make.Empty([e[0]], DType.F32);
            return () => Dora.WeightNorm(w, a, b, 1e-3f, transposed: false, norm);
        }),
    ];

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
