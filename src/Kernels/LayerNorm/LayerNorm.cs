using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Layer normalisation over the last dimension (Ba, Kiros and Hinton, 2016, arXiv:1607.06450):
/// x̂ = (x − mean)·rstd, rstd = 1 ∕ √(variance + eps) with the biased variance, y = x̂·w + b.
/// </summary>
/// <remarks>
/// Backward with g = dy·w and C columns: dx = rstd·(g − Σg∕C − x̂·Σ(g·x̂)∕C), because mean and variance depend on x with
/// ∂mean∕∂x = 1∕C and ∂rstd∕∂x = −rstd²·x̂∕C; dw = Σᵣ dy·x̂, db = Σᵣ dy.
/// </remarks>
public static class LayerNorm
{
    /// <summary>Normalises every row.</summary>
    /// <param name="x">[…, C], contiguous, f32, f64, bf16 or f16.</param>
    /// <param name="w">[C], any float dtype.</param>
    /// <param name="b">[C], any float dtype, or null for none.</param>
    /// <param name="eps">Added to the variance.</param>
    /// <param name="y">Like x, but a matrix may have gaps between its rows; may be x when no backward follows.</param>
    /// <param name="mean">One for each row: f64 when x is f64, else f32; null when no backward follows.</param>
    /// <param name="rstd">Like mean.</param>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Forward(Tensor x, Tensor w, Tensor? b, float eps, Tensor y, Tensor? mean, Tensor? rstd)
    {
        const string Op = "LayerNorm.Forward";
        Check.Float(Op, x);
        RowNormCheck.Forward(Op, x, w, b, y, mean, rstd);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                LayerNormCpu.Forward(x, w, b, eps, y, mean, rstd);
                break;
            case DeviceKind.Cuda:
                LayerNormCuda.Forward(x, w, b, eps, y, mean, rstd);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    /// <summary>The gradients that are asked for. Sums over rows do not depend on the thread count.</summary>
    /// <param name="dy">Like x.</param>
    /// <param name="x">The forward's input.</param>
    /// <param name="w">[C], any float dtype.</param>
    /// <param name="mean">The forward's.</param>
    /// <param name="rstd">The forward's.</param>
    /// <param name="dx">Like x, but a matrix may have gaps between its rows; may be dy; null when not needed.</param>
    /// <param name="dw">[C], any float dtype, added to; null when not needed.</param>
    /// <param name="db">[C], any float dtype, added to; null when not needed.</param>
    /// <param name="addX">Whether dx is added to, in the compute dtype before its one rounding, instead of overwritten; then it is not dy.</param>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Backward(Tensor dy, Tensor x, Tensor w, Tensor mean, Tensor rstd, Tensor? dx, Tensor? dw, Tensor? db, bool addX = false)
    {
        const string Op = "LayerNorm.Backward";
        ArgumentNullException.ThrowIfNull(mean);
        RowNormCheck.Backward(Op, dy, x, w, mean, rstd, dx, dw, db);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                LayerNormCpu.Backward(dy, x, w, mean, rstd, dx, dw, db, addX);
                break;
            case DeviceKind.Cuda:
                LayerNormCuda.Backward(dy, x, w, mean, rstd, dx, dw, db, addX);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }
}
