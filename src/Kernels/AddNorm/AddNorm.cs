using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// The residual addition and the norm that reads its sum, in one pass over memory: s = x + d, y = norm(s) with
/// <see cref="Kernels.RmsNorm"/> or <see cref="Kernels.LayerNorm"/>. s is rounded to the storage dtype before it is normalised,
/// so that both results have the bits of <see cref="Elementwise.Add"/> followed by the norm.
/// </summary>
/// <remarks>Backward is the norm's, which adds its part to the gradient of s; that is then the gradient of x and of d.</remarks>
public static class AddNorm
{
    /// <summary>s = x + d and its RMSNorm.</summary>
    /// <param name="x">[…, C], f32, f64, bf16 or f16; a matrix may have gaps between its rows.</param>
    /// <param name="d">Like x.</param>
    /// <param name="w">[C], any float dtype.</param>
    /// <param name="eps">Added to the mean square.</param>
    /// <param name="s">Like x, contiguous; may be x or d.</param>
    /// <param name="y">Like x; a matrix may have gaps between its rows.</param>
    /// <param name="rstd">One for each row: f64 when x is f64, else f32; null when no backward follows.</param>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void RmsNorm(Tensor x, Tensor d, Tensor w, float eps, Tensor s, Tensor y, Tensor? rstd)
    {
        const string Op = "AddNorm.RmsNorm";
        CheckSum(Op, x, d, s);
        RowNormCheck.Forward(Op, x, w, null, y, null, rstd);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                AddNormCpu.RmsNorm(x, d, w, eps, s, y, rstd);
                break;
            case DeviceKind.Cuda:
                AddNormCuda.RmsNorm(x, d, w, eps, s, y, rstd);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    /// <summary>s = x + d and its LayerNorm.</summary>
    /// <param name="x">[…, C], f32, f64, bf16 or f16; a matrix may have gaps between its rows.</param>
    /// <param name="d">Like x.</param>
    /// <param name="w">[C], any float dtype.</param>
    /// <param name="b">[C], any float dtype, or null for none.</param>
    /// <param name="eps">Added to the variance.</param>
    /// <param name="s">Like x, contiguous; may be x or d.</param>
    /// <param name="y">Like x; a matrix may have gaps between its rows.</param>
    /// <param name="mean">One for each row: f64 when x is f64, else f32; null when no backward follows.</param>
    /// <param name="rstd">Like mean.</param>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void LayerNorm(
        Tensor x, Tensor d, Tensor w, Tensor? b, float eps, Tensor s, Tensor y, Tensor? mean, Tensor? rstd)
    {
        const string Op = "AddNorm.LayerNorm";
        CheckSum(Op, x, d, s);
        RowNormCheck.Forward(Op, x, w, b, y, mean, rstd);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                AddNormCpu.LayerNorm(x, d, w, b, eps, s, y, mean, rstd);
                break;
            case DeviceKind.Cuda:
                AddNormCuda.LayerNorm(x, d, w, b, eps, s, y, mean, rstd);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    private static void CheckSum(string op, Tensor x, Tensor d, Tensor s)
    {
        Check.FloatStrided(op, x);
        Check.Rows(op, x);
        Check.Like(op, d, x);
        Check.Rows(op, d);
        Check.Like(op, s, x);
        Check.Contiguous(op, s);
    }
}
