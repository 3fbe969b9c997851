using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>The plan on the CPU: the ops one after the other.</summary>
internal sealed class AdamWPlanCpu : AdamWPlan
{
    private readonly AdamWSlot[] _slots;
    private readonly Tensor[] _gradients;
    private AdamWStep _step;
    private double? _clip;

    public AdamWPlanCpu(IReadOnlyList<AdamWSlot> slots)
    {
        _slots = [.. slots];
        _gradients = [.. slots.Select(s => s.Gradient)];
        Norm = Tensor.Zeros([1], DType.F64, slots[0].Parameter.Device);
    }

    public override Tensor Norm { get; }

    private protected override void Send(in AdamWStep step, double? clip) => (_step, _clip) = (step, clip);

    private protected override void Queue(Tensor? loss)
    {
        double norm = GradientNormCpu.Compute(_gradients);
        Norm.Span<double>()[0] = norm;
        if (double.IsFinite(norm) && (loss is null || double.IsFinite(ValueOf(loss))))
        {
            double factor = _clip is { } limit ? GradientNorm.ClipScale(norm, limit) : 1;
            AdamWCpu.Step(_slots, _step with { GradientScale = _step.GradientScale * factor });
        }

        foreach (Tensor gradient in _gradients)
        {
            gradient.Clear();
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Norm.Dispose();
        }
    }

    private static double ValueOf(Tensor loss) => loss.DType == DType.F64 ? loss.Span<double>()[0] : loss.Span<float>()[0];
}
