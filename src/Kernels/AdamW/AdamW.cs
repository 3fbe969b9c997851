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
    /// <summary>Makes one step with every slot; gradients stay as they are.</summary>
    /// <remarks>On a GPU each call sends a table of the slots: for steps in a loop there is <see cref="AdamWPlan"/>.</remarks>
    /// <exception cref="ArgumentException">A slot's shapes, dtypes, devices or layouts do not fit.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The step is below 1, or a β is outside [0, 1).</exception>
    public static void Step(IReadOnlyList<AdamWSlot> slots, in AdamWStep step)
    {
        CheckStep(in step);
        CheckSlots("AdamW.Step", slots);
        if (slots.Count == 0)
        {
            return;
        }

        switch (slots[0].Parameter.Device.Kind)
        {
            case DeviceKind.Cpu:
                AdamWCpu.Step(slots, in step);
                break;
            case DeviceKind.Cuda:
                AdamWCuda.Step(slots, in step);
                break;
            default:
                throw DeviceDispatch.Unsupported("AdamW.Step", slots[0].Parameter.Device);
        }
    }

    /// <summary>Checks the shapes, dtypes, devices and layouts of slots.</summary>
    internal static void CheckSlots(string op, IReadOnlyList<AdamWSlot> slots)
    {
        ArgumentNullException.ThrowIfNull(slots);
        for (int i = 0; i < slots.Count; i++)
        {
            CheckSlot(op, slots[i], slots[0].Parameter);
        }
    }

    /// <summary>Checks the ranges of a step's numbers.</summary>
    internal static void CheckStep(in AdamWStep step)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(step.Step, 1, nameof(step));
        CheckBeta(step.Beta1, nameof(step.Beta1));
        CheckBeta(step.Beta2, nameof(step.Beta2));
    }

    private static void CheckSlot(string op, in AdamWSlot slot, Tensor first)
    {
        Check.Float(op, slot.Parameter);
        Check.SameDevice(op, slot.Parameter, first);
        Check.Float(op, slot.Gradient);
        Check.Shaped(op, slot.Gradient, slot.Parameter.Shape);
        Check.SameDevice(op, slot.Gradient, slot.Parameter);
        if ((slot.Gradient.DType == DType.F64) != (slot.Parameter.DType == DType.F64))
        {
            Check.Throw(op, nameof(slot.Gradient), "has to be f64 when and only when the parameter is", slot.Gradient);
        }

        CheckState(op, slot.FirstMoment, slot.Parameter, nameof(slot.FirstMoment));
        CheckState(op, slot.SecondMoment, slot.Parameter, nameof(slot.SecondMoment));
        if (slot.Master is not null)
        {
            CheckState(op, slot.Master, slot.Parameter, nameof(slot.Master));
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
