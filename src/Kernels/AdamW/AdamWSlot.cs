using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A trained tensor with its gradient and optimizer state; all contiguous and of one shape.</summary>
/// <param name="Parameter">Updated in place; f32, bf16, f16 or f64.</param>
/// <param name="Gradient">Read; any float dtype, f64 when and only when the parameter is.</param>
/// <param name="FirstMoment">Running mean of the gradient; f32 (f64 for f64), zero before the first step.</param>
/// <param name="SecondMoment">Running mean of the squared gradient, like <paramref name="FirstMoment"/>.</param>
/// <param name="Master">
/// Optional f32 copy of a bf16 or f16 parameter: it is what is updated, and the parameter receives it rounded.
/// </param>
public readonly record struct AdamWSlot(
    Tensor Parameter, Tensor Gradient, Tensor FirstMoment, Tensor SecondMoment, Tensor? Master = null);

/// <summary>The numbers of one optimizer step.</summary>
/// <param name="LearningRate">Learning rate of this step, after the schedule.</param>
/// <param name="Beta1">Decay of the first moment.</param>
/// <param name="Beta2">Decay of the second moment.</param>
/// <param name="Epsilon">Added to the denominator.</param>
/// <param name="WeightDecay">Decoupled weight decay.</param>
/// <param name="Step">Number of this step, from 1.</param>
/// <param name="GradientScale">
/// Multiplies every gradient first; clipping to a norm c is min(1, c ∕ (norm + 10⁻⁶)), see <see cref="GradientNorm"/>.
/// </param>
public readonly record struct AdamWStep(
    double LearningRate, double Beta1, double Beta2, double Epsilon, double WeightDecay, int Step, double GradientScale = 1);
