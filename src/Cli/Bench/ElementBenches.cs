using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Cli.Bench;

/// <summary>Ops that work element by element, and the optimizer.</summary>
internal static class ElementBenches
{
    private const string Matrix = "rows×columns";

    private static readonly int[] s_matrix = [8192, 8192];

    public static IReadOnlyList<OpBench> All { get; } =
    [
        new("swiglu", Matrix, s_matrix, (e, t) => new SwiGluCase(Count(e), t, false), (make, e, t) =>
        {
            (Tensor gate, Tensor up, Tensor y) = (make.Normal([e[0], e[1]], t), make.Normal([e[0], e[1]], t), make.Empty([e[0], e[1]], t));
            return () => SwiGlu.Forward(gate, up, y);
        }),
        new("swiglu-bwd", Matrix, s_matrix, (e, t) => new SwiGluCase(Count(e), t, true), (make, e, t) =>
        {
            (Tensor dy, Tensor gate, Tensor up) = (make.Normal([e[0], e[1]], t), make.Normal([e[0], e[1]], t), make.Normal([e[0], e[1]], t));
            (Tensor dGate, Tensor dUp) = (make.Empty([e[0], e[1]], t), make.Empty([e[0], e[1]], t));
            return () => SwiGlu.Backward(dy, gate, up, dGate, dUp);
        }),
        new("gelu", Matrix, s_matrix, (e, t) => new GeluCase(Count(e), t, true, false), (make, e, t) =>
        {
            (Tensor x, Tensor y) = (make.Normal([e[0], e[1]], t), make.Empty([e[0], e[1]], t));
            return () => Gelu.Forward(x, tanh: true, y);
        }),
        new("gelu-bwd", Matrix, s_matrix, (e, t) => new GeluCase(Count(e), t, true, true), (make, e, t) =>
        {
            (Tensor dy, Tensor x, Tensor dx) = (make.Normal([e[0], e[1]], t), make.Normal([e[0], e[1]], t), make.Empty([e[0], e[1]], t));
            return () => Gelu.Backward(dy, x, tanh: true, dx);
        }),
        new("silu", Matrix, s_matrix, (e, t) => new SiluCase(Count(e), t, false), (make, e, t) =>
        {
            (Tensor x, Tensor y) = (make.Normal([e[0], e[1]], t), make.Empty([e[0], e[1]], t));
            return () => Silu.Forward(x, y);
        }),
        new("silu-bwd", Matrix, s_matrix, (e, t) => new SiluCase(Count(e), t, true), (make, e, t) =>
        {
            (Tensor dy, Tensor x, Tensor dx) = (make.Normal([e[0], e[1]], t), make.Normal([e[0], e[1]], t), make.Empty([e[0], e[1]], t));
            return () => Silu.Backward(dy, x, dx);
        }),
        new("add", Matrix, s_matrix, (e, t) => new ElementwiseCase(nameof(Elementwise.Add), e[0], e[1], t), (make, e, t) =>
        {
            (Tensor a, Tensor b, Tensor y) = (make.Normal([e[0], e[1]], t), make.Normal([e[0], e[1]], t), make.Empty([e[0], e[1]], t));
            return () => Elementwise.Add(a, b, y);
        }),
        new("scale", Matrix, s_matrix, (e, t) => new ElementwiseCase(nameof(Elementwise.Scale), e[0], e[1], t), (make, e, t) =>
        {
            (Tensor x, Tensor y) = (make.Normal([e[0], e[1]], t), make.Empty([e[0], e[1]], t));
            return () => Elementwise.Scale(x, 0.5f, y);
        }),
        new("cast", Matrix, s_matrix, (e, t) => new CastCase(Count(e), DType.F32, Narrow(t)), (make, e, t) =>
        {
            (Tensor x, Tensor y) = (make.Normal([e[0], e[1]], DType.F32), make.Empty([e[0], e[1]], Narrow(t)));
            return () => Cast.Run(x, y);
        }),
        new("copy", Matrix, s_matrix, (e, t) => new CopyCase(Count(e), t), (make, e, t) =>
        {
            // Every other block of columns: a copy that no plain memory copy can do.
            (Tensor x, Tensor y) = (make.Normal([e[0], 2 * e[1]], t), make.Empty([e[0], e[1]], t));
            Tensor columns = make.Own(x.Slice(1, 0, e[1]));
            return () => Copy.Run(columns, y);
        }),
        new("dropout", Matrix, s_matrix, (e, t) => new DropoutCase(Count(e), t), (make, e, t) =>
        {
            (Tensor x, Tensor y) = (make.Normal([e[0], e[1]], t), make.Empty([e[0], e[1]], t));
            return () => Dropout.Apply(x, 0.1f, new DropoutKey(1, 2), y);
        }),
        new("adamw", "tensors×elements", [224, 65536], (e, t) => new AdamWCase(Count(e), t, t != DType.F32), (make, e, t) =>
        {
            AdamWSlot[] slots = [.. Enumerable.Range(0, e[0]).Select(_ => new AdamWSlot(
                make.Normal([e[1]], t),
                make.Normal([e[1]], t),
                make.Normal([e[1]], DType.F32),
                make.Positive([e[1]], DType.F32),
                t == DType.F32 ? null : make.Normal([e[1]], DType.F32)))];
            return () => AdamW.Step(slots, new AdamWStep(1e-4, 0.9, 0.999, 1e-8, 0.01, 10));
        }),
    ];

    private static long Count(int[] extents) => (long)extents[0] * extents[1];

    private static DType Narrow(DType dtype) => dtype == DType.F32 ? DType.BF16 : dtype;
}
