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

    /// <summary>
    /// Rows of logits to hold at a time where the logits of a whole batch are too many: 512, or, where a product with so few
    /// rows leaves a GPU half idle, as many as take 160 MiB in 16 bits, from 1024 to 2048 and whole tiles of products.
    /// </summary>
    /// <param name="device">Where they are computed.</param>
    /// <param name="vocabulary">Logits of a row.</param>
    public static int ChunkRows(Device device, int vocabulary)
    {
        const int Few = 512;
        const int Least = 1024;
        const int Most = 2048;
        const int Tile = 128;
        const long Bytes = 160L << 20;
        ArgumentNullException.ThrowIfNull(device);
        return device.Kind == DeviceKind.Cpu ? Few : (int)Math.Clamp(Bytes / (2L * Math.Max(1, vocabulary)), Least, Most) / Tile * Tile;
    }

    private const string Op = "CrossEntropy.Forward";

    /// <summary>Losses of all rows and, if asked for, the gradient of the logits.</summary>
    /// <param name="logits">
    /// […, V], f32, f64, bf16 or f16, contiguous or of rank 2 with a gap between rows; −∞ is allowed for tokens that are
    /// excluded.
    /// </param>
    /// <param name="labels">I32, one for each row, from 0 to V − 1 or <see cref="IgnoredLabel"/>.</param>
    /// <param name="losses">One for each row; f64 when logits is f64, else f32; natural logarithm.</param>
    /// <param name="dLogits">
    /// The shape of logits; may be logits itself, or another tensor with row gaps and a dtype of its own (f64 when and only
    /// when logits is); null when no backward follows.
    /// </param>
    /// <param name="gradScale">What the gradient is multiplied with, usually 1 ∕ number of labels.</param>
    /// <remarks>
    /// A GPU does not report a label outside the range, which would mean waiting for it: loss and gradient of that row are
    /// NaN. Callers check labels on the host.
    /// </remarks>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    /// <exception cref="ArgumentOutOfRangeException">
    /// On the CPU: a label is neither from 0 to V − 1 nor <see cref="IgnoredLabel"/>.
    /// </exception>
    public static void Forward(Tensor logits, Tensor labels, Tensor losses, Tensor? dLogits, float gradScale)
    {
        (RowMatrix x, RowMatrix dx) = CheckArguments(logits, labels, losses, dLogits);
        switch (logits.Device.Kind)
        {
            case DeviceKind.Cpu:
                CrossEntropyCpu.Forward(x, labels, losses, dx, gradScale);
                break;
            case DeviceKind.Cuda:
                CrossEntropyCuda.Forward(logits.Device, x, labels, losses, dx, gradScale, null);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, logits.Device);
        }
    }

    /// <summary>The same with the gradient's factor in device memory, where recorded work finds each step's own.</summary>
    /// <param name="logits">As above.</param>
    /// <param name="labels">As above.</param>
    /// <param name="losses">As above.</param>
    /// <param name="dLogits">As above.</param>
    /// <param name="gradScale">One f32 (or, with f64 logits, f64) that the gradient is multiplied with.</param>
    /// <inheritdoc cref="Forward(Tensor, Tensor, Tensor, Tensor, float)"/>
    public static void Forward(Tensor logits, Tensor labels, Tensor losses, Tensor? dLogits, Tensor gradScale)
    {
        (RowMatrix x, RowMatrix dx) = CheckArguments(logits, labels, losses, dLogits);
        Check.Float(Op, gradScale);
        Check.Count(Op, gradScale, 1);
        Check.SameDevice(Op, gradScale, logits);
        if (gradScale.DType != DType.F32 && (gradScale.DType != DType.F64 || logits.DType != DType.F64))
        {
            Check.Throw(Op, nameof(gradScale), "has to be f32, or f64 when logits is", gradScale);
        }

        switch (logits.Device.Kind)
        {
            case DeviceKind.Cpu:
                double scale = gradScale.DType == DType.F64 ? gradScale.Span<double>()[0] : gradScale.Span<float>()[0];
                CrossEntropyCpu.Forward(x, labels, losses, dx, scale);
                break;
            case DeviceKind.Cuda:
                CrossEntropyCuda.Forward(logits.Device, x, labels, losses, dx, 0, gradScale);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, logits.Device);
        }
    }

    private static (RowMatrix Logits, RowMatrix Gradient) CheckArguments(
        Tensor logits, Tensor labels, Tensor losses, Tensor? dLogits)
    {
        RowMatrix x = RowMatrix.Of(Op, logits, logits);
        Check.Type(Op, labels, DType.I32);
        Check.Count(Op, labels, x.Rows);
        Check.SameDevice(Op, labels, logits);
        ArgumentNullException.ThrowIfNull(losses);
        Check.ForRows(Op, losses, logits, nameof(losses));
        if (dLogits is null)
        {
            return (x, default);
        }

        RowMatrix dx = RowMatrix.Of(Op, dLogits, logits);
        Check.Shaped(Op, dLogits, logits.Shape);
        if (dx.Address == x.Address && (dx.DType != x.DType || dx.Stride != x.Stride))
        {
            Check.Throw(Op, nameof(dLogits), "has to be logits itself or a tensor elsewhere", dLogits);
        }

        return (x, dx);
    }
}
