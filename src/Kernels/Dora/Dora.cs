using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// What DoRA adds to a low-rank linear: the norm of each output's adapted weight vector and the ratio of the learned
/// magnitude to it. Source: Liu et al., DoRA: Weight-Decomposed Low-Rank Adaptation, 2024, §4.
/// </summary>
public static class Dora
{
    /// <summary>norm[n] = ‖W[n,:] + scale·(B·A)[n,:]‖₂.</summary>
    /// <param name="w">[N,K], or [K,N] when <paramref name="transposed"/>; any float dtype, rows may have gaps between them.</param>
    /// <param name="a">[r,K], f32 (f64 when W is f64).</param>
    /// <param name="b">[N,r], like <paramref name="a"/> in dtype.</param>
    /// <param name="scale">α/r.</param>
    /// <param name="transposed">W is stored [in, out].</param>
    /// <param name="norm">[N], like <paramref name="a"/> in dtype.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void WeightNorm(Tensor w, Tensor a, Tensor b, float scale, bool transposed, Tensor norm)
    {
        const string Op = "Dora.WeightNorm";
        Check.FloatStrided(Op, w);
        Check.Rows(Op, w);
        DType dtype = Check.Statistics(w.DType);
        Check.Type(Op, a, dtype);
        Check.Type(Op, b, dtype);
        Check.Type(Op, norm, dtype);
        Check.SameDevice(Op, a, w);
        Check.SameDevice(Op, b, w);
        Check.SameDevice(Op, norm, w);
        Check.Rank(Op, w, 2);
        Check.Rank(Op, a, 2);
        int n = w.Shape[transposed ? 1 : 0];
        int k = w.Shape[transposed ? 0 : 1];
        Check.Shaped(Op, a, [a.Shape[0], k]);
        Check.Shaped(Op, b, [n, a.Shape[0]]);
        Check.Shaped(Op, norm, [n]);
        switch (w.Device.Kind)
        {
            case DeviceKind.Cpu:
                DoraCpu.WeightNorm(w, a, b, scale, transposed, norm);
                break;
            case DeviceKind.Cuda:
                DoraCuda.WeightNorm(w, a, b, scale, transposed, norm);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, w.Device);
        }
    }

    /// <summary>y = magnitude / norm, elementwise; all [N] and of one dtype, f32 or f64.</summary>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void Ratio(Tensor magnitude, Tensor norm, Tensor y)
    {
        const string Op = "Dora.Ratio";
        Check.Float(Op, magnitude);
        Check.Like(Op, norm, magnitude);
        Check.Like(Op, y, magnitude);
        switch (magnitude.Device.Kind)
        {
            case DeviceKind.Cpu:
                DoraCpu.Ratio(magnitude, norm, y);
                break;
            case DeviceKind.Cuda:
                DoraCuda.Ratio(magnitude, norm, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, magnitude.Device);
        }
    }

    /// <summary>Scales each output's weight vector: W[n,:] ← W[n,:]·ratio[n], in place.</summary>
    /// <param name="w">[N,K], or [K,N] when <paramref name="transposed"/>; f32 or f64.</param>
    /// <param name="ratio">[N], like <paramref name="w"/> in dtype.</param>
    /// <param name="transposed">W is stored [in, out].</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void ScaleOutputs(Tensor w, Tensor ratio, bool transposed)
    {
        const string Op = "Dora.ScaleOutputs";
        Check.Float(Op, w);
        Check.Float(Op, ratio);
        Check.Rank(Op, w, 2);
        Check.Shaped(Op, ratio, [w.Shape[transposed ? 1 : 0]]);
        Check.SameDevice(Op, ratio, w);
        if (w.DType != ratio.DType || w.DType is not (DType.F32 or DType.F64))
        {
            Check.Throw(Op, nameof(w), "has to be f32 or f64 like ratio", w);
        }

        switch (w.Device.Kind)
        {
            case DeviceKind.Cpu:
                DoraCpu.ScaleOutputs(w, ratio, transposed);
                break;
            case DeviceKind.Cuda:
                DoraCuda.ScaleOutputs(w, ratio, transposed);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, w.Device);
        }
    }
}
