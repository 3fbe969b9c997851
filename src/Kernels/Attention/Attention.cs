using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Causal scaled dot-product attention with grouped key/value heads (GQA; Ainslie et al. 2023) and a first visible key
/// per query, which covers packed segments, left padding and sliding windows. Query head h reads key/value head
/// ⌊h ∕ (H ∕ Hkv)⌋. The scores are computed in tiles with an online softmax (Dao et al., FlashAttention, 2022,
/// algorithm 1), so memory grows with T, never with T².
/// </summary>
/// <remarks>
/// With s[i,j] = scale·q[i]·k[j] over the visible keys, p = softmax(s) and o = p·v, the backward follows from
/// dp = dO·vᵀ: ds[i,j] = p[i,j]·(dp[i,j] − δ[i]) with δ[i] = Σ_j p[i,j]·dp[i,j] = dO[i]·o[i]; then dv = pᵀ·dO,
/// dq = scale·ds·k and dk = scale·dsᵀ·q. p is recomputed as exp(s − lse).
/// All sums run in an order that depends on the shapes alone: results do not depend on the number of threads.
/// </remarks>
public static class Attention
{
    /// <summary>Computes o and, when asked for, the logarithm of each query's softmax denominator.</summary>
    /// <param name="q">Queries [B, Tq, H, D], float; strides free except that of the last dimension, which is 1.</param>
    /// <param name="k">Keys [B, Tk, Hkv, D] like <paramref name="q"/>; H is a multiple of Hkv.</param>
    /// <param name="v">Values, like <paramref name="k"/>.</param>
    /// <param name="keyStart">I32 [B, Tq], contiguous: the first key that query i sees; negative counts as 0.</param>
    /// <param name="queryOffset">Query i stands at key <c>queryOffset + i</c> and sees keys up to that one; <c>queryOffset + Tq ≤ Tk</c>.</param>
    /// <param name="scale">Factor of the scores, usually 1/√D.</param>
    /// <param name="o">Result [B, Tq, H, D], strided like <paramref name="q"/>. A query that sees no key gets 0.</param>
    /// <param name="lse">Optional result [B, H, Tq], f32 (f64 for f64), contiguous: ln Σ_j exp(s[i,j]); −∞ for a query that sees no key.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes, devices or layouts do not fit.</exception>
    public static void Forward(
        Tensor q, Tensor k, Tensor v, Tensor keyStart, int queryOffset, float scale, Tensor o, Tensor? lse)
    {
        const string Op = "Attention.Forward";
        CheckInputs(Op, q, k, v, keyStart);
        CheckLike(Op, o, q, nameof(o));
        if (lse is not null)
        {
            CheckStatistics(Op, lse, q);
        }

        ArgumentOutOfRangeException.ThrowIfNegative(queryOffset);
        if ((long)queryOffset + q.Shape[1] > k.Shape[1])
        {
            throw new ArgumentException(
                $"{Op}: queries stand at keys {queryOffset} to {queryOffset + (long)q.Shape[1] - 1}, but there are {k.Shape[1]} keys",
                nameof(queryOffset));
        }

        switch (q.Device.Kind)
        {
            case DeviceKind.Cpu:
                AttentionCpu.Forward(q, k, v, keyStart, queryOffset, scale, o, lse);
                break;
            case DeviceKind.Cuda:
                AttentionCuda.Forward(q, k, v, keyStart, queryOffset, scale, o, lse);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, q.Device);
        }
    }

    /// <summary>
    /// The forward for one query of each row over a cache whose length the device knows: the query stands at the last of the
    /// keys held. What is launched depends on the cache's capacity alone, so a recorded step serves a growing length.
    /// </summary>
    /// <param name="q">Queries [B, 1, H, D], as in the forward.</param>
    /// <param name="k">Keys [B, capacity, Hkv, D], as in the forward; those beyond the length are not read.</param>
    /// <param name="v">Values, like <paramref name="k"/>.</param>
    /// <param name="keyStart">I32 [B, 1], contiguous: the first key that the query sees; negative counts as 0.</param>
    /// <param name="length">I32 [1]: the number of keys held, from 1 to the capacity.</param>
    /// <param name="scale">As in the forward.</param>
    /// <param name="o">Result [B, 1, H, D], strided like <paramref name="q"/>. A query that sees no key gets 0.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes, devices or layouts do not fit; on the CPU also a length out of range.</exception>
    public static void Decode(Tensor q, Tensor k, Tensor v, Tensor keyStart, Tensor length, float scale, Tensor o)
    {
        const string Op = "Attention.Decode";
        CheckInputs(Op, q, k, v, keyStart);
        CheckLike(Op, o, q, nameof(o));
        Check.Type(Op, length, DType.I32);
        Check.Shaped(Op, length, [1]);
        Check.SameDevice(Op, length, q);
        if (q.Shape[1] != 1)
        {
            Check.Throw(Op, nameof(q), "has to hold one query of each row", q);
        }

        switch (q.Device.Kind)
        {
            case DeviceKind.Cpu:
                AttentionCpu.Decode(q, k, v, keyStart, length, scale, o);
                break;
            case DeviceKind.Cuda:
                AttentionCuda.Decode(q, k, v, keyStart, length, queryOffset: 0, scale, o, lse: null);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, q.Device);
        }
    }

    /// <summary>Computes the gradients of q, k and v; there are as many keys as queries and the query offset is 0.</summary>
    /// <param name="dO">Gradient of o, [B, T, H, D], strided like q.</param>
    /// <param name="q">As in the forward.</param>
    /// <param name="k">As in the forward.</param>
    /// <param name="v">As in the forward.</param>
    /// <param name="o">The forward's result.</param>
    /// <param name="lse">The forward's result.</param>
    /// <param name="keyStart">As in the forward.</param>
    /// <param name="scale">As in the forward.</param>
    /// <param name="dq">Result, like q; may be strided, overlaps no input.</param>
    /// <param name="dk">Result, like k; may be strided, overlaps no input.</param>
    /// <param name="dv">Result, like v; may be strided, overlaps no input.</param>
    /// <param name="rotation">What turned q and k before the forward: dq and dk are turned back. On a GPU at no cost where Hopper's kernels run.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes, devices or layouts do not fit.</exception>
    public static void Backward(
        Tensor dO, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, Tensor keyStart, float scale, Tensor dq, Tensor dk, Tensor dv,
        Rotation? rotation = null)
    {
        const string Op = "Attention.Backward";
        CheckInputs(Op, q, k, v, keyStart);
        CheckLike(Op, dO, q, nameof(dO));
        CheckLike(Op, o, q, nameof(o));
        CheckLike(Op, dq, q, nameof(dq));
        CheckLike(Op, dk, k, nameof(dk));
        CheckLike(Op, dv, k, nameof(dv));
        CheckStatistics(Op, lse, q);
        if (q.Shape[1] != k.Shape[1])
        {
            throw new ArgumentException($"{Op}: {q.Shape[1]} queries and {k.Shape[1]} keys; there have to be as many", nameof(k));
        }

        rotation?.Check(Op, q);
        bool turned = false;
        switch (q.Device.Kind)
        {
            case DeviceKind.Cpu:
                AttentionCpu.Backward(dO, q, k, v, o, lse, keyStart, scale, dq, dk, dv);
                break;
            case DeviceKind.Cuda:
                turned = AttentionCuda.Backward(dO, q, k, v, o, lse, keyStart, scale, dq, dk, dv, rotation);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, q.Device);
        }

        if (!turned)
        {
            rotation?.Apply(dq, inverse: true);
            rotation?.Apply(dk, inverse: true);
        }
    }

    private static void CheckInputs(string op, Tensor q, Tensor k, Tensor v, Tensor keyStart)
    {
        Check.FloatStrided(op, q);
        Check.Rank(op, q, 4);
        InnermostContiguous(op, q, nameof(q));
        ArgumentNullException.ThrowIfNull(k);
        Check.Rank(op, k, 4);
        InnermostContiguous(op, k, nameof(k));
        Check.SameDevice(op, k, q);
        if (k.DType != q.DType || k.Shape[0] != q.Shape[0] || k.Shape[3] != q.Shape[3])
        {
            Check.Throw(op, nameof(k), $"has to be {q.DType.Name()}[{q.Shape[0]}, keys, heads, {q.Shape[3]}]", k);
        }

        if (k.Shape[2] == 0 ? q.Shape[2] != 0 : q.Shape[2] % k.Shape[2] != 0)
        {
            throw new ArgumentException(
                $"{op}: {q.Shape[2]} query heads are not a multiple of {k.Shape[2]} key/value heads", nameof(k));
        }

        CheckLike(op, v, k, nameof(v));
        Check.Type(op, keyStart, DType.I32);
        Check.Shaped(op, keyStart, [q.Shape[0], q.Shape[1]]);
        Check.SameDevice(op, keyStart, q);
    }

    private static void CheckLike(string op, Tensor tensor, Tensor model, string name)
    {
        Check.Like(op, tensor, model, name);
        InnermostContiguous(op, tensor, name);
    }

    private static void CheckStatistics(string op, Tensor lse, Tensor q)
    {
        Check.Type(op, lse, Check.Statistics(q.DType));
        Check.Shaped(op, lse, [q.Shape[0], q.Shape[2], q.Shape[1]]);
        Check.SameDevice(op, lse, q);
    }

    private static void InnermostContiguous(string op, Tensor tensor, string name)
    {
        if (tensor.Shape[3] > 1 && tensor.Strides[3] != 1)
        {
            Check.Throw(op, name, "has to have stride 1 in its last dimension", tensor);
        }
    }
}
