using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Cross-entropy of logits against one label a row: loss = log Σⱼ exp(x[j]) − x[label], and its gradient
/// (softmax(x) − onehot(label))·gradScale in the same call, because both need the row's maximum and sum.
/// </summary>
public static class CrossEntropy
{
    /// <summary>The label of a row that does not count: its loss and gradient are 0.</summary>
    public const int IgnoredLabel = -100;

    /// <summary>Losses of all rows and, if asked for, the gradient of the logits.</summary>
    /// <param name="logits">[…, V], contiguous, f32, f64, bf16 or f16; −∞ is allowed for tokens that are excluded.</param>
    /// <param name="labels">I32, one for each row, from 0 to V − 1 or <see cref="IgnoredLabel"/>.</param>
    /// <param name="losses">One for each row; f64 when logits is f64, else f32; natural logarithm.</param>
    /// <param name="dLogits">Like logits; may be logits; null when no backward follows.</param>
    /// <param name="gradScale">What the gradient is multiplied with, usually 1 ∕ number of labels.</param>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A label is neither from 0 to V − 1 nor <see cref="IgnoredLabel"/>.</exception>
    public static void Forward(Tensor logits, Tensor labels, Tensor losses, Tensor? dLogits, float gradScale)
    {
        const string Op = "CrossEntropy.Forward";
        Check.Float(Op, logits);
        Check.Type(Op, labels, DType.I32);
        Check.Count(Op, labels, Check.Rows(logits));
        Check.SameDevice(Op, labels, logits);
        ArgumentNullException.ThrowIfNull(losses);
        Check.ForRows(Op, losses, logits, nameof(losses));
        if (dLogits is not null)
        {
            Check.Like(Op, dLogits, logits);
            Check.Contiguous(Op, dLogits);
        }

        switch (logits.Device.Kind)
        {
            case DeviceKind.Cpu:
                CrossEntropyCpu.Forward(logits, labels, losses, dLogits, gradScale);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, logits.Device);
        }
    }
}
