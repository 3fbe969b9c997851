using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Dropout (Srivastava et al., 2014) with a counter-based generator: element i is kept when word i mod 4 of Philox4x32-10
/// at counter (i div 4, stream) under the key seed is at least p·2³², so that the mask is a function of the key and the
/// element's index alone. The backward is the same call on the gradient.
/// </summary>
public static class Dropout
{
    /// <summary>y = x ∕ (1 − p) where kept, else 0.</summary>
    /// <param name="x">Any shape, contiguous; f32, f64, bf16, f16.</param>
    /// <param name="p">Probability of dropping an element, 0 ≤ p &lt; 1; realised to within 2⁻³³.</param>
    /// <param name="key">Names the mask.</param>
    /// <param name="y">Like x; may be x.</param>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="p"/> is not in [0, 1).</exception>
    public static void Apply(Tensor x, float p, DropoutKey key, Tensor y)
    {
        const string Op = "Dropout.Apply";
        Check.Float(Op, x);
        Check.Like(Op, y, x);
        Check.Contiguous(Op, y);
        if (!(p >= 0 && p < 1))
        {
            throw new ArgumentOutOfRangeException(nameof(p), p, $"{Op}: p is {p}; it has to be at least 0 and less than 1");
        }

        if (key.Step is { } step)
        {
            Check.Type(Op, step, DType.I64);
            Check.Count(Op, step, 1);
            Check.SameDevice(Op, step, x);
        }

        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                DropoutCpu.Apply(x, p, key, y);
                break;
            case DeviceKind.Cuda:
                DropoutCuda.Apply(x, p, key, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    /// <summary>Words below it drop their element: p·2³², rounded.</summary>
    internal static uint Threshold(float p) => (uint)Math.Min(Math.Round(p * 4294967296.0), uint.MaxValue);
}
