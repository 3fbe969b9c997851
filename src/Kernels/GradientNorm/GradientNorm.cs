using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>The Euclidean norm of many tensors taken as one vector: what gradient clipping compares with its limit.</summary>
public static class GradientNorm
{
    private const string Op = "GradientNorm.Compute";

    /// <summary>
    /// √Σ g² over all elements of all tensors, accumulated in double: squares of f32, bf16 and f16 neither overflow nor
    /// lose bits there. NaN or an infinity anywhere gives a result that is not finite. Waits for the device.
    /// </summary>
    /// <param name="gradients">Float tensors, contiguous, on one device.</param>
    /// <exception cref="ArgumentException">A tensor does not fit.</exception>
    public static double Compute(IReadOnlyList<Tensor> gradients)
    {
        CheckGradients(gradients);
        if (gradients.Count == 0)
        {
            return 0;
        }

        switch (gradients[0].Device.Kind)
        {
            case DeviceKind.Cpu:
                return GradientNormCpu.Compute(gradients);
            case DeviceKind.Cuda:
                using (Tensor norm = Tensor.Empty([1], DType.F64, gradients[0].Device))
                {
                    GradientNormCuda.Compute(gradients, norm);
                    return norm.ToArray<double>()[0];
                }

            default:
                throw DeviceDispatch.Unsupported(Op, gradients[0].Device);
        }
    }

    /// <summary>The same, left on the device; does not wait for it.</summary>
    /// <param name="gradients">Float tensors, contiguous, on one device.</param>
    /// <param name="norm">One f64, overwritten.</param>
    /// <exception cref="ArgumentException">A tensor does not fit.</exception>
    public static void Compute(IReadOnlyList<Tensor> gradients, Tensor norm)
    {
        CheckGradients(gradients);
        Check.Type(Op, norm, DType.F64);
        Check.Count(Op, norm, 1);
        if (gradients.Count > 0)
        {
            Check.SameDevice(Op, norm, gradients[0], nameof(norm), nameof(gradients));
        }

        switch (norm.Device.Kind)
        {
            case DeviceKind.Cpu:
                norm.Span<double>()[0] = GradientNormCpu.Compute(gradients);
                break;
            case DeviceKind.Cuda:
                GradientNormCuda.Compute(gradients, norm);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, norm.Device);
        }
    }

    /// <summary>The factor that scales gradients of this norm to at most <paramref name="limit"/>: min(1, limit ∕ (norm + 10⁻⁶)), as PyTorch's clip_grad_norm_.</summary>
    public static double ClipScale(double norm, double limit) => Math.Min(1, limit / (norm + 1e-6));

    private static void CheckGradients(IReadOnlyList<Tensor> gradients)
    {
        ArgumentNullException.ThrowIfNull(gradients);
        for (int i = 0; i < gradients.Count; i++)
        {
            Check.Float(Op, gradients[i], nameof(gradients));
            Check.SameDevice(Op, gradients[i], gradients[0], nameof(gradients));
        }
    }
}
