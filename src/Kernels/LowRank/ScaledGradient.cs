using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// What <see cref="LowRank.GradientNormed"/> needs of dS, formed beside it by <see cref="LowRank.GradientYNormed"/>: F = dS∘rstd, and
/// for LayerNorm sums over rows. Belongs to the caller.
/// </summary>
public sealed class ScaledGradient : IDisposable
{
    // Takes both over.
    internal ScaledGradient(Tensor factor, Tensor? sums) => (Factor, Sums) = (factor, sums);

    /// <summary>F [M, R], contiguous, rounded to bf16.</summary>
    internal Tensor Factor { get; }

    /// <summary>[blocks, 2·R] f32: the sums of F·mean and of dS over each block's rows; null for RMSNorm.</summary>
    internal Tensor? Sums { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        Factor.Dispose();
        Sums?.Dispose();
    }
}
