using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Conversion between float dtypes. Widening is exact; narrowing rounds to nearest, ties to even, in one step; overflow
/// becomes infinity and NaN stays NaN.
/// </summary>
public static class Cast
{
    /// <summary>y = x in y's dtype. Equal numbers of elements, contiguous; f32, f64, bf16, f16 in any combination; no overlap.</summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Run(Tensor x, Tensor y)
    {
        const string Op = "Cast.Run";
        Check.Float(Op, x);
        Check.Float(Op, y);
        Check.Count(Op, y, x.Elements);
        Check.SameDevice(Op, y, x);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                CastCpu.Run(x, y);
                break;
            case DeviceKind.Cuda:
                CastCuda.Run(x, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }
}
