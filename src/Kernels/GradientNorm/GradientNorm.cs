using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>The Euclidean norm of many tensors taken as one vector: what gradient clipping compares with its limit.</summary>
public static class GradientNorm
{
    /// <summary>
    /// √Σ g² over all elements of all tensors, accumulated in double: squares of f32, bf16 and f16 neither overflow nor
    /// lose bits there. NaN or an infinity anywhere gives a result that is not finite.
    /// </summary>
    /// <param name="gradients">Float tensors, contiguous, on one device.</param>
    /// <exception cref="ArgumentException">A tensor does not fit.</exception>
    public static double Compute(IReadOnlyList<Tensor> gradients)
    {
        const string Op = "GradientNorm.Compute";
        ArgumentNullException.ThrowIfNull(gradients);
        for (int i = 0; i < gradients.Count; i++)
        {
            Check.Float(Op, gradients[i], nameof(gradients));
            Check.SameDevice(Op, gradients[i], gradients[0], nameof(gradients));
        }

        if (gradients.Count == 0)
        {
            return 0;
        }

        return gradients[0].Device.Kind switch
        {
            DeviceKind.Cpu => GradientNormCpu.Compute(gradients),
            _ => throw DeviceDispatch.Unsupported(Op, gradients[0].Device),
        };
    }

    /// <summary>The factor that scales gradients of this norm to at most <paramref name="limit"/>: min(1, limit ∕ (norm + 10⁻⁶)), as PyTorch's clip_grad_norm_.</summary>
    public static double ClipScale(double norm, double limit) => Math.Min(1, limit / (norm + 1e-6));
}
