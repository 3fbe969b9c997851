using Engine.Tensors;

namespace Engine.Kernels;

/// <remarks>
/// A stack behind a norm reads x̂, which its gradient of A needs again. The norm's backward keeps the norm's input x anyway, and x̂
/// is x with rows and columns scaled: <see cref="GradientNormed"/> reads x instead, so that nobody has to keep x̂.
/// </remarks>
public static partial class LowRank
{
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
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void GradientNormed(NormedInput x, BorderedWeight weight, Tensor ds, IReadOnlyList<Tensor?> dA)
    {
        const string Op = "LowRank.GradientNormed";
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(dA);
        Operand(Op, x.X, weight, weight.Inputs, nameof(x.X));
        Check.Contiguous(Op, x.X);
        Check.ForColumns(Op, x.Weight, x.X, nameof(x.Weight));
        if (x.Bias is not null)
        {
            Check.ForColumns(Op, x.Bias, x.X, nameof(x.Bias));
        }

        ArgumentNullException.ThrowIfNull(x.Rstd);
        Check.ForRows(Op, x.Mean, x.X, nameof(x.Mean));
        Check.ForRows(Op, x.Rstd, x.X, nameof(x.Rstd));
        Operand(Op, ds, weight, weight.Width, nameof(ds));
        Check.Shaped(Op, ds, [x.X.Shape[0], weight.Width]);
        Check.SameDevice(Op, ds, x.X);
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
                if (!LowRankCuda.TryGradientNormed(x, weight, ds, dA))
                {
                    GradientOfFormed(x, weight, ds, dA);
                }

                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.X.Device);
        }
    }

    private static void GradientOfFormed(NormedInput x, BorderedWeight weight, Tensor ds, IReadOnlyList<Tensor?> dA)
    {
        using Tensor formed = Tensor.Empty(x.X.Shape, x.X.DType, x.X.Device);
        x.Form(formed);
        GradientX(formed, weight, ds, dA);
    }
}
