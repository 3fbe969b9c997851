using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Cli.Bench;

/// <summary>Matrix products, the low-rank path and the merge.</summary>
internal static class ProductBenches
{
    private const string Product = "m×n×k";
    private const string Low = "rows×inputs×outputs×rank";
    private const string Adapted = "outputs×inputs×rank";

    private static readonly int[] s_product = [8192, 4096, 4096];
    private static readonly int[] s_low = [8192, 4096, 4096, 16];
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
        Pass("lowrank-down", LowRankPass.Down),
        Pass("lowrank-grad-y", LowRankPass.GradientY),
        Pass("lowrank-grad-x", LowRankPass.GradientX),
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

    // One pass over [rows, columns]; the frozen weight beside the adapter is square, and only its border is read.
    private static OpBench Pass(string name, LowRankPass pass) => new(
        name, "rows×columns×rank", [8192, 4096, 16], (e, t) => new LowRankPassCase(pass, e[0], e[1], e[2], t), (make, e, t) =>
        {
            Tensor values = make.Normal([e[0], e[1]], t);
            using Tensor frozen = Tensor.Zeros([e[1], e[1]], t, make.Device);
            BorderedWeight weight = make.Own(BorderedWeight.Create([frozen], [e[2]], transposed: false));
            weight.TryAssign([e[2]], [1e-3f]);
            using (var writer = new BorderWriter())
            {
                writer.Add(weight, 0, make.Normal([e[2], e[1]], DType.F32), make.Normal([e[1], e[2]], DType.F32));
                writer.Run();
            }

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

    private static MatMulCase Case(int[] e, DType dtype) => new(e[0], e[1], e[2], dtype);

    private static Action Multiply(BenchTensors make, Shape left, bool transA, Shape right, bool transB, int[] e, DType dtype)
    {
        (Tensor a, Tensor b, Tensor c) = (make.Normal(left, dtype), make.Normal(right, dtype), make.Empty([e[0], e[1]], dtype));
        return () => MatMul.Run(a, transA, b, transB, c);
    }
}
