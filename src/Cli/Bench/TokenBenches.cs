using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Cli.Bench;

/// <summary>Ops on tokens: embedding, rotary positions, attention.</summary>
internal static class TokenBenches
{
    private const string Heads = "batch×tokens×heads×key heads×head dim";
    private const string Table = "ids×vocabulary×width";

    private static readonly int[] s_heads = [4, 2048, 32, 8, 64];
    private static readonly int[] s_table = [8192, 128256, 2048];

    public static IReadOnlyList<OpBench> All { get; } =
    [
        new("embedding", Table, s_table, (e, t) => new EmbeddingCase(e[0], e[1], e[2], t, false), (make, e, t) =>
        {
            (Tensor ids, Tensor table, Tensor y) = (make.Integers([e[0]], e[1]), make.Normal([e[1], e[2]], t), make.Empty([e[0], e[2]], t));
            return () => Embedding.Forward(ids, table, y);
        }),
        new("embedding-bwd", Table, s_table, (e, t) => new EmbeddingCase(e[0], e[1], e[2], t, true), (make, e, t) =>
        {
            (Tensor ids, Tensor dy, Tensor dTable) = (make.Integers([e[0]], e[1]), make.Normal([e[0], e[2]], t), make.Zeros([e[1], e[2]], t));
            return () => Embedding.Backward(ids, dy, dTable);
        }),
        new("rope", "batch×tokens×heads×head dim", [4, 2048, 32, 64], (e, t) => new RopeCase(e[0], e[1], e[2], e[3], t), (make, e, t) =>
        {
            (Tensor x, Tensor y) = (make.Normal([e[0], e[1], e[2], e[3]], t), make.Empty([e[0], e[1], e[2], e[3]], t));
            (Tensor cos, Tensor sin) = (make.Normal([e[1], e[3] / 2], DType.F32), make.Normal([e[1], e[3] / 2], DType.F32));
            Tensor positions = make.Integers([e[0], e[1]], [.. Enumerable.Range(0, e[0] * e[1]).Select(i => i % e[1])]);
            return () => Rope.Apply(x, cos, sin, positions, inverse: false, y);
        }),
        new("attention", Heads, s_heads, (e, t) => new AttentionCase(e[0], e[1], e[1], e[2], e[3], e[4], t, false), (make, e, t) =>
        {
            (Tensor q, Tensor k, Tensor v) = Inputs(make, e, e[1], t);
            (Tensor o, Tensor lse) = (make.Empty(q.Shape, t), make.Empty([e[0], e[2], e[1]], DType.F32));
            Tensor start = make.Zeros([e[0], e[1]], DType.I32);
            return () => Attention.Forward(q, k, v, start, 0, Scale(e), o, lse);
        }),
        new("attention-bwd", Heads, s_heads, (e, t) => new AttentionCase(e[0], e[1], e[1], e[2], e[3], e[4], t, true), (make, e, t) =>
        {
            (Tensor q, Tensor k, Tensor v) = Inputs(make, e, e[1], t);
            (Tensor o, Tensor lse) = (make.Empty(q.Shape, t), make.Empty([e[0], e[2], e[1]], DType.F32));
            Tensor start = make.Zeros([e[0], e[1]], DType.I32);
            Attention.Forward(q, k, v, start, 0, Scale(e), o, lse);
            (Tensor dO, Tensor dq, Tensor dk, Tensor dv) = (make.Normal(q.Shape, t), make.Empty(q.Shape, t), make.Empty(k.Shape, t), make.Empty(v.Shape, t));
            return () => Attention.Backward(dO, q, k, v, o, lse, start, Scale(e), dq, dk, dv);
        }),
        new("attention-decode", "batch×keys×heads×key heads×head dim", [32, 2048, 32, 8, 64],
            (e, t) => new AttentionCase(e[0], 1, e[1], e[2], e[3], e[4], t, false), (make, e, t) =>
        {
            (Tensor q, Tensor k, Tensor v) = Inputs(make, e, 1, t);
            Tensor o = make.Empty(q.Shape, t);
            Tensor start = make.Zeros([e[0], 1], DType.I32);
            return () => Attention.Forward(q, k, v, start, e[1] - 1, Scale(e), o, null);
        }),
    ];

    private static (Tensor Q, Tensor K, Tensor V) Inputs(BenchTensors make, int[] e, int queries, DType dtype) => (
        make.Normal([e[0], queries, e[2], e[4]], dtype),
        make.Normal([e[0], e[1], e[3], e[4]], dtype),
        make.Normal([e[0], e[1], e[3], e[4]], dtype));

    private static float Scale(int[] e) => 1 / MathF.Sqrt(e[4]);
}
