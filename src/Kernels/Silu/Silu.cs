using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Sigmoid linear unit, also swish (Elfwing et al., 2017, arXiv:1702.03118): y = x·σ(x).
/// Backward: dx = dy·σ(x)·(1 + x·(1 − σ(x))).
/// </summary>
public static class Silu
{
    /// <summary>y = x·σ(x). Any shape, contiguous, or matrices with gaps between their rows; f32, f64, bf16, f16; y may be x.</summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Forward(Tensor x, Tensor y)
    {
        const string Op = "Silu.Forward";
        Check.FloatStrided(Op, x);
        Check.Rows(Op, x);
        Check.Like(Op, y, x);
        Check.Rows(Op, y);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                SiluCpu.Forward(x, y);
                break;
            case DeviceKind.Cuda:
                SiluCuda.Forward(x, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    /// <summary>dx = dy·silu′(x). Any shape, contiguous, or matrices with gaps between their rows; f32, f64, bf16, f16; dx may be dy or x.</summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Backward(Tensor dy, Tensor x, Tensor dx)
    {
        const string Op = "Silu.Backward";
        Check.FloatStrided(Op, x);
        Check.Rows(Op, x);
        Check.Like(Op, dy, x);
        Check.Rows(Op, dy);
        Check.Like(Op, dx, x);
        Check.Rows(Op, dx);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                SiluCpu.Backward(dy, x, dx);
                break;
            case DeviceKind.Cuda:
                SiluCuda.Backward(dy, x, dx);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }
}
