using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Gated linear unit with SiLU (Shazeer, 2020, arXiv:2002.05202): y = silu(gate)·up.
/// Backward: dGate = dy·up·silu′(gate), dUp = dy·silu(gate).
/// </summary>
public static class SwiGlu
{
    /// <summary>y = silu(gate)·up. Any shape, contiguous, or matrices with gaps between their rows; f32, f64, bf16, f16; y may be gate or up.</summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Forward(Tensor gate, Tensor up, Tensor y)
    {
        const string Op = "SwiGlu.Forward";
        Check.FloatStrided(Op, gate);
        Check.Rows(Op, gate);
        Check.Like(Op, up, gate);
        Check.Rows(Op, up);
        Check.Like(Op, y, gate);
        Check.Rows(Op, y);
        switch (gate.Device.Kind)
        {
            case DeviceKind.Cpu:
                SwiGluCpu.Forward(gate, up, y);
                break;
            case DeviceKind.Cuda:
                SwiGluCuda.Forward(gate, up, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, gate.Device);
        }
    }

    /// <summary>
    /// The gradients of both inputs. Any shape, contiguous, or matrices with gaps between their rows; f32, f64, bf16, f16; dGate
    /// and dUp are different tensors, each may be one of the inputs.
    /// </summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public static void Backward(Tensor dy, Tensor gate, Tensor up, Tensor dGate, Tensor dUp)
    {
        const string Op = "SwiGlu.Backward";
        Check.FloatStrided(Op, gate);
        Check.Rows(Op, gate);
        Check.Like(Op, up, gate);
        Check.Rows(Op, up);
        Check.Like(Op, dy, gate);
        Check.Rows(Op, dy);
        Check.Like(Op, dGate, gate);
        Check.Rows(Op, dGate);
        Check.Like(Op, dUp, gate);
        Check.Rows(Op, dUp);
        switch (gate.Device.Kind)
        {
            case DeviceKind.Cpu:
                SwiGluCpu.Backward(dy, gate, up, dGate, dUp);
                break;
            case DeviceKind.Cuda:
                SwiGluCuda.Backward(dy, gate, up, dGate, dUp);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, gate.Device);
        }
    }
}
