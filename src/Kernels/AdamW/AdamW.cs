using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// AdamW (Loshchilov and Hutter, Decoupled weight decay regularization, 2019, algorithm 2) over many tensors in one call.
/// </summary>
/// <remarks>
/// The arithmetic and its order are those of PyTorch's torch.optim.AdamW; the scalars are computed in double and rounded
/// to the compute dtype (f32; f64 for f64) where they meet a tensor:
/// <code>
/// g ← g · gradientScale
/// p ← p · (1 − lr·weightDecay)
/// m ← m + (1 − β₁)·(g − m)                   for 1 − β₁ &lt; ½, otherwise g − (g − m)·β₁
/// v ← v·β₂ + ((1 − β₂)·g)·g
/// p ← p + (−lr ∕ (1 − β₁ᵗ)·m) ∕ (√v ∕ √(1 − β₂ᵗ) + ε)
/// </code>
/// </remarks>
public static class AdamW
{
    /// <summary>Makes one step with every slot.</summary>
    /// <exception cref="ArgumentException">A slot's shapes, dtypes, devices or layouts do not fit.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The step is below 1, or a β is outside [0, 1).</exception>
    public static void Step(IReadOnlyList<AdamWSlot> slots, in AdamWStep step)
    {
        ArgumentNullException.ThrowIfNull(slots);
        ArgumentOutOfRangeException.ThrowIfLessThan(step.Step, 1, nameof(step));
        CheckBeta(step.Beta1, nameof(step.Beta1));
        CheckBeta(step.Beta2, nameof(step.Beta2));
        for (int i = 0; i < slots.Count; i++)
        {
            CheckSlot(slots[i], slots[0].Parameter);
        }

        if (slots.Count == 0)
        {
            return;
        }

        switch (slots[0].Parameter.Device.Kind)
        {
            case DeviceKind.Cpu:
                AdamWCpu.Step(slots, in step);
                break;
            default:
                throw DeviceDispatch.Unsupported("AdamW.Step", slots[0].Parameter.Device);
        }
    }

    private static void CheckSlot(in AdamWSlot slot, Tensor first)
    {
        const string Op = "AdamW.Step";
        Check.Float(Op, slot.Parameter);
        Check.SameDevice(Op, slot.Parameter, first);
        Check.Float(Op, slot.Gradient);
        Check.Shaped(Op, slot.Gradient, slot.Parameter.Shape);
        Check.SameDevice(Op, slot.Gradient, slot.Parameter);
        if ((slot.Gradient.DType == DType.F64) != (slot.Parameter.DType == DType.F64))
        {
            Check.Throw(Op, nameof(slot.Gradient), "has to be f64 when and only when the parameter is", slot.Gradient);
        }

        CheckState(Op, slot.FirstMoment, slot.Parameter, nameof(slot.FirstMoment));
        CheckState(Op, slot.SecondMoment, slot.Parameter, nameof(slot.SecondMoment));
        if (slot.Master is not null)
        {
            CheckState(Op, slot.Master, slot.Parameter, nameof(slot.Master));
        }
    }

    private static void CheckState(string op, Tensor tensor, Tensor parameter, string name)
    {
        Check.Type(op, tensor, Check.Statistics(parameter.DType), name);
        Check.Shaped(op, tensor, parameter.Shape, name);
        Check.SameDevice(op, tensor, parameter, name);
    }

    private static void CheckBeta(double beta, string name)
    {
        if (!(beta >= 0 && beta < 1))
        {
            throw new ArgumentOutOfRangeException(name, beta, "has to be at least 0 and below 1");
        }
    }
}
