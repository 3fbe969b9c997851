using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Gaussian error linear unit (Hendrycks and Gimpel, 2016, arXiv:1606.08415): y = x·Φ(x) with the normal distribution
/// function Φ, or its tanh form y = x·σ(w), w = 2·√(2∕π)·(x + 0.044715·x³), which is ½·x·(1 + tanh(w∕2)).
/// </summary>
/// <remarks>
/// Backward: dx = dy·(Φ(x) + x·φ(x)) with the density φ, and dx = dy·(σ(w) + x·σ(w)·(1 − σ(w))·w′),
/// w′ = 2·√(2∕π)·(1 + 3·0.044715·x²).
/// </remarks>
public static class Gelu
{
    /// <summary>y = gelu(x). Any shape, contiguous, or matrices with gaps between their rows; f32, f64, bf16, f16; y may be x.</summary>
    /// <param name="x">Input.</param>
    /// <param name="tanh">True for the tanh form (<c>gelu_new</c>, <c>gelu_pytorch_tanh</c>), false for the exact form (<c>gelu</c>).</param>
    /// <param name="y">Output, like x.</param>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Forward(Tensor x, bool tanh, Tensor y)
    {
        const string Op = "Gelu.Forward";
        Check.FloatStrided(Op, x);
        Check.Rows(Op, x);
        Check.Like(Op, y, x);
        Check.Rows(Op, y);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                GeluCpu.Forward(x, tanh, y);
                break;
            case DeviceKind.Cuda:
                GeluCuda.Forward(x, tanh, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    /// <summary>dx = dy·gelu′(x). Any shape, contiguous, or matrices with gaps between their rows; f32, f64, bf16, f16; dx may be dy or x.</summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Backward(Tensor dy, Tensor x, bool tanh, Tensor dx)
    {
        const string Op = "Gelu.Backward";
        Check.FloatStrided(Op, x);
        Check.Rows(Op, x);
        Check.Like(Op, dy, x);
        Check.Rows(Op, dy);
        Check.Like(Op, dx, x);
        Check.Rows(Op, dx);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                GeluCpu.Backward(dy, x, tanh, dx);
                break;
            case DeviceKind.Cuda:
                GeluCuda.Backward(dy, x, tanh, dx);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }
}
