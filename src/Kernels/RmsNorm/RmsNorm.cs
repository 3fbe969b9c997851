using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Root mean square normalisation over the last dimension (Zhang and Sennrich, 2019, arXiv:1910.07467):
/// x̂ = x·rstd, rstd = 1 ∕ √(mean(x²) + eps), y = x̂·w.
/// </summary>
/// <remarks>
/// Backward with g = dy·w and C columns: dx = rstd·(g − x̂·Σ(g·x̂)∕C), because ∂rstd∕∂x = −rstd²·x̂∕C; dw = Σᵣ dy·x̂.
/// </remarks>
public static class RmsNorm
{
    /// <summary>Normalises every row.</summary>
    /// <param name="x">[…, C], contiguous, f32, f64, bf16 or f16.</param>
    /// <param name="w">[C], any float dtype.</param>
    /// <param name="eps">Added to the mean square.</param>
    /// <param name="y">Like x, but a matrix may have gaps between its rows; may be x when no backward follows.</param>
    /// <param name="rstd">One for each row: f64 when x is f64, else f32; null when no backward follows.</param>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Forward(Tensor x, Tensor w, float eps, Tensor y, Tensor? rstd)
    {
        const string Op = "RmsNorm.Forward";
        Check.Float(Op, x);
        RowNormCheck.Forward(Op, x, w, null, y, null, rstd);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                RmsNormCpu.Forward(x, w, eps, y, rstd);
                break;
            case DeviceKind.Cuda:
                RmsNormCuda.Forward(x, w, eps, y, rstd);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    /// <summary>The gradients that are asked for. Sums over rows do not depend on the thread count.</summary>
    /// <param name="dy">Like x.</param>
    /// <param name="x">The forward's input.</param>
    /// <param name="w">[C], any float dtype.</param>
    /// <param name="rstd">The forward's.</param>
    /// <param name="dx">Like x, but a matrix may have gaps between its rows; may be dy; null when not needed.</param>
    /// <param name="dw">[C], any float dtype, added to; null when not needed.</param>
    /// <param name="addX">Whether dx is added to, in the compute dtype before its one rounding, instead of overwritten; then it is not dy.</param>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Backward(Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor? dx, Tensor? dw, bool addX = false)
    {
        const string Op = "RmsNorm.Backward";
        RowNormCheck.Backward(Op, dy, x, w, null, rstd, dx, dw, null);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                RmsNormCpu.Backward(dy, x, w, rstd, dx, dw, addX);
                break;
            case DeviceKind.Cuda:
                RmsNormCuda.Backward(dy, x, w, rstd, dx, dw, addX);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }
}
