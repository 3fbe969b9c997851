using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// The optimizer's part of a training step over a fixed list of slots: global gradient norm, clipping, <see cref="AdamW"/>,
/// gradients set to zero. <see cref="Run"/> queues work that is the same in every step and may be recorded; what differs
/// goes to the device beforehand with <see cref="SetStep"/>.
/// </summary>
/// <remarks>
/// On the CPU the result has the bits of <see cref="GradientNorm.Compute(IReadOnlyList{Tensor})"/> followed by
/// <see cref="AdamW.Step"/> with the clipping coefficient as gradient scale. The plan knows the slots' addresses: the tensors
/// stay alive and in place as long as the plan.
/// </remarks>
public abstract class AdamWPlan : IDisposable
{
    private bool _hasStep;

    /// <summary>Global L2 norm of the gradients before scaling, in the last <see cref="Run"/>: one f64 on the device.</summary>
    public abstract Tensor Norm { get; }

    /// <summary>Checks the slots and makes a plan for them; not within recorded work.</summary>
    /// <exception cref="ArgumentException">There is no slot, or a slot's shapes, dtypes, devices or layouts do not fit.</exception>
    /// <exception cref="NotSupportedException">The device does not compute in a slot's dtype.</exception>
    public static AdamWPlan Create(IReadOnlyList<AdamWSlot> slots)
    {
        const string Op = "AdamWPlan.Create";
        AdamW.CheckSlots(Op, slots);
        if (slots.Count == 0)
        {
            throw new ArgumentException($"{Op}: there is nothing to train: the list of slots is empty", nameof(slots));
        }

        return slots[0].Parameter.Device.Kind switch
        {
            DeviceKind.Cpu => new AdamWPlanCpu(slots),
            DeviceKind.Cuda => new AdamWPlanCuda(slots),
            _ => throw DeviceDispatch.Unsupported(Op, slots[0].Parameter.Device),
        };
    }

    /// <summary>Sends the numbers of the runs to come to the device; not within recorded work. Allocates nothing.</summary>
    /// <param name="step">The step; its gradient scale comes on top of the clipping.</param>
    /// <param name="clip">
    /// Gradients are scaled by min(1, clip ∕ (norm + 10⁻⁶)), see <see cref="GradientNorm.ClipScale"/>; null: not at all.
    /// </param>
    /// <exception cref="ArgumentOutOfRangeException">The step is below 1, a β is outside [0, 1), or clip is negative or NaN.</exception>
    public void SetStep(in AdamWStep step, double? clip)
    {
        AdamW.CheckStep(in step);
        if (clip is { } limit && !(limit >= 0))
        {
            throw new ArgumentOutOfRangeException(nameof(clip), clip, "has to be at least 0");
        }

        Send(in step, clip);
        _hasStep = true;
    }

    /// <summary>
    /// Queues the norm, the update of all slots and the clearing of the gradients. When the norm or the loss is not finite
    /// nothing is updated; the gradients become zero all the same.
    /// </summary>
    /// <param name="loss">One f32 or f64 on the slots' device, or null.</param>
    /// <exception cref="ArgumentException">The loss does not fit.</exception>
    /// <exception cref="InvalidOperationException"><see cref="SetStep"/> was not called.</exception>
    public void Run(Tensor? loss)
    {
        if (loss is not null)
        {
            const string Op = "AdamWPlan.Run";
            Check.Float(Op, loss);
            Check.Count(Op, loss, 1);
            Check.SameDevice(Op, loss, Norm, nameof(loss), nameof(Norm));
            if (loss.DType is not (DType.F32 or DType.F64))
            {
                Check.Throw(Op, nameof(loss), "has to be f32 or f64", loss);
            }
        }

        if (!_hasStep)
        {
            throw new InvalidOperationException("SetStep comes before Run");
        }

        Queue(loss);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Sends checked numbers.</summary>
    private protected abstract void Send(in AdamWStep step, double? clip);

    /// <summary>Queues the work with a checked loss.</summary>
    private protected abstract void Queue(Tensor? loss);

    /// <summary>Gives the plan's memory back.</summary>
    protected abstract void Dispose(bool disposing);
}
