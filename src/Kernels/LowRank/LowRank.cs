using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// The low-rank path of LoRA (Hu et al. 2021, §4.1): y += scale·(x·Aᵀ)·Bᵀ, and its gradients.
/// <see cref="GroupedLowRank"/> is the same for a batch whose rows use different adapters. Sums run in fp32 (fp64 when all tensors are f64); x, A, B, y and the gradients may each
/// be f32, bf16 or f16.
/// </summary>
/// <remarks>
/// With s = scale·x·Aᵀ [R, r] and y = y₀ + s·Bᵀ: dB = dyᵀ·s; ds = scale·dy·B is the gradient with respect to x·Aᵀ, so
/// dA = dsᵀ·x and dx = ds·A. The scale is applied in fp32 and never folded into a stored matrix. On CUDA the products take
/// operands of one dtype: A, B, s and ds are rounded to that of the activations.
/// A matrix of rank 2 may have a gap between its rows; a tensor of another rank is contiguous and R is the product of all
/// extents but the last.
/// </remarks>
public static partial class LowRank
{
    /// <summary>y += scale·(x·Aᵀ)·Bᵀ.</summary>
    /// <param name="x">Input [R, K].</param>
    /// <param name="a">Down-projection [r, K].</param>
    /// <param name="b">Up-projection [N, r].</param>
    /// <param name="scale">α/r or α/√r.</param>
    /// <param name="y">Added to, [R, N].</param>
    /// <param name="s">Optional result [R, r]: scale·x·Aᵀ for the backward, rounded to its dtype (f32 loses nothing).</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void Forward(Tensor x, Tensor a, Tensor b, float scale, Tensor y, Tensor? s = null)
    {
        const string Op = "LowRank.Forward";
        RowMatrix input = RowMatrix.Of(Op, x, x);
        (RowMatrix down, RowMatrix up) = Adapter(Op, a, b, x, input.Columns);
        RowMatrix output = RowMatrix.Of(Op, y, x).Sized(Op, y, input.Rows, up.Rows);
        RowMatrix saved = s is null ? default : RowMatrix.Of(Op, s, x).Sized(Op, s, input.Rows, down.Rows);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                LowRankCpu.Forward(input, down, up, scale, output, saved);
                break;
            case DeviceKind.Cuda:
                LowRankCuda.Forward(x, a, b, scale, y, s);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    /// <summary>The gradients of <see cref="Forward"/>; each is added to, and none is computed where it is null.</summary>
    /// <param name="dy">Gradient of y, [R, N].</param>
    /// <param name="x">As in the forward.</param>
    /// <param name="a">As in the forward.</param>
    /// <param name="b">As in the forward.</param>
    /// <param name="s">What the forward saved.</param>
    /// <param name="scale">As in the forward.</param>
    /// <param name="dx">Added to, or set, [R, K].</param>
    /// <param name="dA">Added to, [r, K].</param>
    /// <param name="dB">Added to, [N, r].</param>
    /// <param name="setX">Whether <paramref name="dx"/> is set: what it held does not matter.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void Backward(
        Tensor dy, Tensor x, Tensor a, Tensor b, Tensor s, float scale, Tensor? dx, Tensor? dA, Tensor? dB, bool setX = false)
    {
        const string Op = "LowRank.Backward";
        RowMatrix input = RowMatrix.Of(Op, x, x);
        (RowMatrix down, RowMatrix up) = Adapter(Op, a, b, x, input.Columns);
        RowMatrix gradient = RowMatrix.Of(Op, dy, x).Sized(Op, dy, input.Rows, up.Rows);
        RowMatrix saved = RowMatrix.Of(Op, s, x).Sized(Op, s, input.Rows, down.Rows);
        RowMatrix dInput = dx is null ? default : RowMatrix.Of(Op, dx, x).Sized(Op, dx, input.Rows, input.Columns);
        RowMatrix dDown = dA is null ? default : RowMatrix.Of(Op, dA, x).Sized(Op, dA, down.Rows, down.Columns);
        RowMatrix dUp = dB is null ? default : RowMatrix.Of(Op, dB, x).Sized(Op, dB, up.Rows, up.Columns);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                if (setX)
                {
                    dx?.Clear();
                }

                LowRankCpu.Backward(gradient, input, down, up, saved, scale, dInput, dDown, dUp);
                break;
            case DeviceKind.Cuda:
                LowRankCuda.Backward(dy, x, a, b, s, scale, dx, dA, dB, setX);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    private static (RowMatrix Down, RowMatrix Up) Adapter(string op, Tensor a, Tensor b, Tensor x, int columns)
    {
        RowMatrix down = RowMatrix.Of(op, a, x);
        RowMatrix up = RowMatrix.Of(op, b, x);
        if (down.Columns != columns)
        {
            Check.Throw(op, nameof(a), $"has to have {columns} columns", a);
        }

        if (up.Columns != down.Rows)
        {
            Check.Throw(op, nameof(b), $"has to have {down.Rows} columns, A's rank", b);
        }

        return (down, up);
    }
}
