using Engine.Tensors;

namespace Engine.Kernels;

/// <remarks>
/// A stack behind a norm reads x̂, which its gradient of A needs again. The norm's backward keeps the norm's input x anyway, and x̂
/// is x with rows and columns scaled: <see cref="GradientNormed"/> reads x instead, so that nobody has to keep x̂.
/// </remarks>
public static partial class LowRank
{
    /// <summary>
    /// <see cref="GradientY"/> of a stack behind a norm: where a GPU reads dY once, for bf16, it forms in the same launch as dS what
    /// <see cref="GradientNormed"/> would need a launch of its own for.
    /// </summary>
    /// <param name="dy">[M, N] of all linears, with a border.</param>
    /// <param name="weight">The stack.</param>
    /// <param name="s">What <see cref="Down"/> made.</param>
    /// <param name="dB">[N, r] for each linear, added to; f32 on a GPU is the fast case; null where none is wanted.</param>
    /// <param name="x">The norm; its input [M, K] has the weight's dtype.</param>
    /// <returns>For <see cref="GradientNormed"/>, the caller's; or null.</returns>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static ScaledGradient? GradientYNormed(Tensor dy, BorderedWeight weight, Tensor s, IReadOnlyList<Tensor?> dB, NormedInput x)
    {
        const string Op = "LowRank.GradientYNormed";
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(dy);
        Norm(Op, x, weight);
        Check.SameDevice(Op, x.X, dy);
        if (x.X.Shape[0] != dy.Shape[0])
        {
            Check.Throw(Op, nameof(x.X), $"has to have {dy.Shape[0]} rows", x.X);
        }

        return GradientOfY(dy, weight, s, dB, x);
    }

    /// <summary>
    /// dA += dSᵀ·x̂ for x̂ = x·rstd·w (RMSNorm) or (x − mean)·rstd·w + b (LayerNorm). With F = dS∘rstd, a factor for each row,
    /// dA[j,c] += w[c]·(Σ_m F[m,j]·x[m,c] − Σ_m F[m,j]·mean[m]) + b[c]·Σ_m dS[m,j]: on a GPU one pass over x for bf16 and borders up
    /// to 64 columns, where addresses and strides are multiples of 16 bytes. F is rounded to bf16, for the sums with the mean too,
    /// and x̂ is not rounded. Elsewhere x̂ is formed again and goes to <see cref="GradientX"/>.
    /// </summary>
    /// <param name="x">The norm; its input [M, K] has the weight's dtype.</param>
    /// <param name="weight">The stack.</param>
    /// <param name="ds">[M, R], any row stride, what <see cref="GradientY"/> left in the border.</param>
    /// <param name="dA">[r, K] for each linear, added to; f32 without gaps on a GPU is the fast case; null where none is wanted.</param>
    /// <param name="scaled">What <see cref="GradientYNormed"/> made of this dS and this norm, or null: it is formed here then, where it
    /// is needed.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void GradientNormed(
        NormedInput x, BorderedWeight weight, Tensor ds, IReadOnlyList<Tensor?> dA, ScaledGradient? scaled = null)
    {
        const string Op = "LowRank.GradientNormed";
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(dA);
        Norm(Op, x, weight);
        Operand(Op, ds, weight, weight.Width, nameof(ds));
        Check.Shaped(Op, ds, [x.X.Shape[0], weight.Width]);
        Check.SameDevice(Op, ds, x.X);
        if (scaled is not null)
        {
            Check.Shaped(Op, scaled.Factor, [x.X.Shape[0], weight.Width]);
            Check.SameDevice(Op, scaled.Factor, x.X);
            if (scaled.Sums is null != x.Mean is null)
            {
                throw new ArgumentException($"{Op}: {nameof(scaled)} is of another kind of norm", nameof(scaled));
            }
        }

        for (int i = 0; i < dA.Count; i++)
        {
            Gradient(Op, dA[i], weight.Slots[i].Rank, weight.Inputs, x.X, nameof(dA));
        }

        if (dA.All(static gradient => gradient is null))
        {
            return;
        }

        switch (x.X.Device.Kind)
        {
            case DeviceKind.Cpu:
                GradientOfFormed(x, weight, ds, dA);
                break;
            case DeviceKind.Cuda:
                if (!LowRankCuda.TryGradientNormed(x, weight, ds, dA, scaled))
                {
                    GradientOfFormed(x, weight, ds, dA);
                }

                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.X.Device);
        }
    }

    private static void Norm(string op, NormedInput x, BorderedWeight weight)
    {
        Operand(op, x.X, weight, weight.Inputs, nameof(x.X));
        Check.Contiguous(op, x.X);
        Check.ForColumns(op, x.Weight, x.X, nameof(x.Weight));
        if (x.Bias is not null)
        {
            Check.ForColumns(op, x.Bias, x.X, nameof(x.Bias));
        }

        ArgumentNullException.ThrowIfNull(x.Rstd);
        Check.ForRows(op, x.Mean, x.X, nameof(x.Mean));
        Check.ForRows(op, x.Rstd, x.X, nameof(x.Rstd));
    }

    private static void GradientOfFormed(NormedInput x, BorderedWeight weight, Tensor ds, IReadOnlyList<Tensor?> dA)
    {
        using Tensor formed = Tensor.Empty(x.X.Shape, x.X.DType, x.X.Device);
        x.Form(formed);
        GradientX(formed, weight, ds, dA);
    }
}
