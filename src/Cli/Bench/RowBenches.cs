using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Cli.Bench;

/// <summary>Ops that work row by row.</summary>
internal static class RowBenches
{
    private const string Matrix = "rows×columns";
    private const float Epsilon = 1e-5f;

    private static readonly int[] s_matrix = [8192, 4096];

    public static IReadOnlyList<OpBench> All { get; } =
    [
        new("rmsnorm", Matrix, s_matrix, (e, t) => new RmsNormCase(e[0], e[1], t, false), (make, e, t) =>
        {
            (Tensor x, Tensor w, Tensor y) = (make.Normal([e[0], e[1]], t), make.Normal([e[1]], t), make.Empty([e[0], e[1]], t));
            Tensor rstd = make.Empty([e[0]], DType.F32);
            return () => RmsNorm.Forward(x, w, Epsilon, y, rstd);
        }),
        new("rmsnorm-bwd", Matrix, s_matrix, (e, t) => new RmsNormCase(e[0], e[1], t, true), (make, e, t) =>
        {
            (Tensor dy, Tensor x, Tensor w) = (make.Normal([e[0], e[1]], t), make.Normal([e[0], e[1]], t), make.Normal([e[1]], t));
            (Tensor rstd, Tensor dx, Tensor dw) = (make.Positive([e[0]], DType.F32), make.Empty([e[0], e[1]], t), make.Zeros([e[1]], t));
            return () => RmsNorm.Backward(dy, x, w, rstd, dx, dw);
        }),
        new("rmsnorm-dx", Matrix, s_matrix, (e, t) => new RmsNormCase(e[0], e[1], t, true, Weights: false), (make, e, t) =>
        {
            (Tensor dy, Tensor x, Tensor w) = (make.Normal([e[0], e[1]], t), make.Normal([e[0], e[1]], t), make.Normal([e[1]], t));
            (Tensor rstd, Tensor dx) = (make.Positive([e[0]], DType.F32), make.Empty([e[0], e[1]], t));
            return () => RmsNorm.Backward(dy, x, w, rstd, dx, null);
        }),
        new("add-rmsnorm", Matrix, s_matrix, (e, t) => new AddNormCase(e[0], e[1], t, Layer: false), (make, e, t) =>
        {
            (Tensor x, Tensor d, Tensor w) = (make.Normal([e[0], e[1]], t), make.Normal([e[0], e[1]], t), make.Normal([e[1]], t));
            (Tensor s, Tensor y, Tensor rstd) = (make.Empty([e[0], e[1]], t), make.Empty([e[0], e[1]], t), make.Empty([e[0]], DType.F32));
            return () => AddNorm.RmsNorm(x, d, w, Epsilon, s, y, rstd);
        }),
        new("layernorm", Matrix, s_matrix, (e, t) => new LayerNormCase(e[0], e[1], t, false), (make, e, t) =>
        {
            (Tensor x, Tensor w, Tensor b) = (make.Normal([e[0], e[1]], t), make.Normal([e[1]], t), make.Normal([e[1]], t));
            (Tensor y, Tensor mean, Tensor rstd) = (make.Empty([e[0], e[1]], t), make.Empty([e[0]], DType.F32), make.Empty([e[0]], DType.F32));
            return () => LayerNorm.Forward(x, w, b, Epsilon, y, mean, rstd);
        }),
        new("layernorm-bwd", Matrix, s_matrix, (e, t) => new LayerNormCase(e[0], e[1], t, true), (make, e, t) =>
        {
            (Tensor dy, Tensor x, Tensor w) = (make.Normal([e[0], e[1]], t), make.Normal([e[0], e[1]], t), make.Normal([e[1]], t));
            (Tensor mean, Tensor rstd) = (make.Normal([e[0]], DType.F32), make.Positive([e[0]], DType.F32));
            (Tensor dx, Tensor dw, Tensor db) = (make.Empty([e[0], e[1]], t), make.Zeros([e[1]], t), make.Zeros([e[1]], t));
            return () => LayerNorm.Backward(dy, x, w, mean, rstd, dx, dw, db);
        }),
        new("layernorm-dx", Matrix, s_matrix, (e, t) => new LayerNormCase(e[0], e[1], t, true, Weights: false), (make, e, t) =>
        {
            (Tensor dy, Tensor x, Tensor w) = (make.Normal([e[0], e[1]], t), make.Normal([e[0], e[1]], t), make.Normal([e[1]], t));
            (Tensor mean, Tensor rstd, Tensor dx) = (make.Normal([e[0]], DType.F32), make.Positive([e[0]], DType.F32), make.Empty([e[0], e[1]], t));
            return () => LayerNorm.Backward(dy, x, w, mean, rstd, dx, null, null);
        }),
        new("add-layernorm", Matrix, s_matrix, (e, t) => new AddNormCase(e[0], e[1], t, Layer: true), (make, e, t) =>
        {
            (Tensor x, Tensor d) = (make.Normal([e[0], e[1]], t), make.Normal([e[0], e[1]], t));
            (Tensor w, Tensor b) = (make.Normal([e[1]], t), make.Normal([e[1]], t));
            (Tensor s, Tensor y) = (make.Empty([e[0], e[1]], t), make.Empty([e[0], e[1]], t));
            (Tensor mean, Tensor rstd) = (make.Empty([e[0]], DType.F32), make.Empty([e[0]], DType.F32));
            return () => AddNorm.LayerNorm(x, d, w, b, Epsilon, s, y, mean, rstd);
        }),
        new("crossentropy", "rows×vocabulary", [2048, 128256], (e, t) => new CrossEntropyCase(e[0], e[1], t, true), (make, e, t) =>
        {
            (Tensor logits, Tensor labels) = (make.Normal([e[0], e[1]], t), make.Integers([e[0]], e[1]));
            (Tensor losses, Tensor gradient) = (make.Empty([e[0]], DType.F32), make.Empty([e[0], e[1]], t));
            return () => CrossEntropy.Forward(logits, labels, losses, gradient, 1f / e[0]);
        }),
        new("add-bias", Matrix, s_matrix, (e, t) => new ElementwiseCase(nameof(Elementwise.AddBias), e[0], e[1], t), (make, e, t) =>
        {
            (Tensor x, Tensor bias) = (make.Normal([e[0], e[1]], t), make.Normal([e[1]], t));
            return () => Elementwise.AddBias(x, bias);
        }),
        new("bias-gradient", Matrix, s_matrix, (e, t) => new ElementwiseCase(nameof(Elementwise.BiasGradient), e[0], e[1], t), (make, e, t) =>
        {
            (Tensor dy, Tensor gradient) = (make.Normal([e[0], e[1]], t), make.Zeros([e[1]], t));
            return () => Elementwise.BiasGradient(dy, gradient);
        }),
    ];
}
