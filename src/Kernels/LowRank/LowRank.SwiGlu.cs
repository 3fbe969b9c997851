using Engine.Tensors;

namespace Engine.Kernels;

/// <remarks>
/// An MLP's down projection reads y = silu(gate)·up, from which <see cref="SwiGluDown"/> makes S while it forms it. The gradient
/// of A needs y again: <see cref="SwiGluBackward"/> forms it from gate and up, which SwiGLU's own backward reads anyway, so that
/// nobody has to keep it.
/// </remarks>
public static partial class LowRank
{
    /// <summary>
    /// y = silu(gate)·up (see <see cref="SwiGlu.Forward"/>, whose bits it has) and S = scale·y·Aᵀ of a stack that reads y, as
    /// <see cref="Down"/> forms it from y as it is rounded. On a GPU one pass for bf16 and f16 and borders up to 32 columns,
    /// where addresses and strides are multiples of 16 bytes, with S in another order where
    /// <see cref="Down"/> goes by products; else those two.
    /// </summary>
    /// <param name="gate">[M, K], any row stride; the weight's dtype, as all others.</param>
    /// <param name="up">[M, K], any row stride.</param>
    /// <param name="weight">The stack of K inputs.</param>
    /// <param name="y">[M, K], overwritten, any row stride; shares no element with the inputs.</param>
    /// <param name="s">[M, R], overwritten, any row stride: as a rule the border of <paramref name="y"/>.</param>
    /// <param name="copy">S once more, without the border's gaps, for the backward: [M, R], overwritten; or null.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void SwiGluDown(Tensor gate, Tensor up, BorderedWeight weight, Tensor y, Tensor s, Tensor? copy = null)
    {
        const string Op = "LowRank.SwiGluDown";
        ArgumentNullException.ThrowIfNull(weight);
        Operand(Op, gate, weight, weight.Inputs, nameof(gate));
        Matching(Op, up, gate, nameof(up));
        Matching(Op, y, gate, nameof(y));
        Operand(Op, s, weight, weight.Width, nameof(s));
        Check.Shaped(Op, s, [gate.Shape[0], weight.Width]);
        Check.SameDevice(Op, s, gate);
        CopyOfS(Op, copy, s);
        switch (gate.Device.Kind)
        {
            case DeviceKind.Cpu:
                SwiGluDownInSteps(gate, up, weight, y, s, copy);
                break;
            case DeviceKind.Cuda:
                if (!LowRankCuda.TrySwiGluDown(gate, up, weight, y, s, copy))
                {
                    SwiGluDownInSteps(gate, up, weight, y, s, copy);
                }

                break;
            default:
                throw DeviceDispatch.Unsupported(Op, gate.Device);
        }
    }

    /// <summary>
    /// The backward of SwiGLU (see <see cref="SwiGlu.Backward"/>, whose bits it has) and dA += dSᵀ·y of a stack that read
    /// y = silu(gate)·up, with y formed again and rounded as <see cref="SwiGlu.Forward"/> did. On a GPU one pass for bf16 and f16
    /// and borders up to 64 columns, where addresses and strides are multiples of 16 bytes.
    /// </summary>
    /// <param name="dInner">The gradient of y [M, K], any row stride; the weight's dtype, as all but <paramref name="dA"/>.</param>
    /// <param name="gate">[M, K], any row stride.</param>
    /// <param name="up">[M, K], any row stride.</param>
    /// <param name="weight">The stack of K inputs.</param>
    /// <param name="ds">[M, R], what <see cref="GradientY"/> left in the border.</param>
    /// <param name="dA">[r, K] for each linear, added to; f32 without gaps on a GPU is the fast case; null where none is wanted.</param>
    /// <param name="dGate">[M, K], overwritten, any row stride; may be <paramref name="gate"/>.</param>
    /// <param name="dUp">[M, K], overwritten, any row stride; may be <paramref name="up"/>, not <paramref name="dGate"/>.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public static void SwiGluBackward(
        Tensor dInner, Tensor gate, Tensor up, BorderedWeight weight, Tensor ds, IReadOnlyList<Tensor?> dA, Tensor dGate, Tensor dUp)
    {
        const string Op = "LowRank.SwiGluBackward";
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(dA);
        Operand(Op, gate, weight, weight.Inputs, nameof(gate));
        Matching(Op, dInner, gate, nameof(dInner));
        Matching(Op, up, gate, nameof(up));
        Matching(Op, dGate, gate, nameof(dGate));
        Matching(Op, dUp, gate, nameof(dUp));
        Operand(Op, ds, weight, weight.Width, nameof(ds));
        Check.Shaped(Op, ds, [gate.Shape[0], weight.Width]);
        Check.SameDevice(Op, ds, gate);
        for (int i = 0; i < dA.Count; i++)
        {
            Gradient(Op, dA[i], weight.Slots[i].Rank, weight.Inputs, gate, nameof(dA));
        }

        switch (gate.Device.Kind)
        {
            case DeviceKind.Cpu:
                SwiGluBackwardInSteps(dInner, gate, up, weight, ds, dA, dGate, dUp);
                break;
            case DeviceKind.Cuda:
                if (!LowRankCuda.TrySwiGluBackward(dInner, gate, up, weight, ds, dA, dGate, dUp))
                {
                    SwiGluBackwardInSteps(dInner, gate, up, weight, ds, dA, dGate, dUp);
                }

                break;
            default:
                throw DeviceDispatch.Unsupported(Op, gate.Device);
        }
    }

    // What the one pass stands for, and where there is none.
    private static void SwiGluDownInSteps(Tensor gate, Tensor up, BorderedWeight weight, Tensor y, Tensor s, Tensor? copy)
    {
        SwiGlu.Forward(gate, up, y);
        Down(y, weight, s, copy: copy);
    }

    private static void SwiGluBackwardInSteps(
        Tensor dInner, Tensor gate, Tensor up, BorderedWeight weight, Tensor ds, IReadOnlyList<Tensor?> dA, Tensor dGate, Tensor dUp)
    {
        if (dA.Any(static gradient => gradient is not null))
        {
            using Tensor y = Tensor.Empty(gate.Shape, gate.DType, gate.Device);
            SwiGlu.Forward(gate, up, y);
            GradientX(y, weight, ds, dA);
        }

        SwiGlu.Backward(dInner, gate, up, dGate, dUp);
    }

    private static void Matching(string op, Tensor tensor, Tensor model, string name)
    {
        Check.FloatStrided(op, tensor, name);
        Check.Rows(op, tensor, name);
        Check.Like(op, tensor, model, name);
    }
}
