using System.Numerics;

namespace Engine.Kernels;

/// <summary>The scalars of a step, computed in double and rounded once to the compute dtype.</summary>
internal readonly struct AdamWCoefficients<T>(AdamWStep s)
    where T : IFloatingPointIeee754<T>
{
    public readonly T GradientScale = T.CreateTruncating(s.GradientScale);
    public readonly T Decay = T.CreateTruncating(1 - (s.LearningRate * s.WeightDecay));
    public readonly T Beta1 = T.CreateTruncating(s.Beta1);
    public readonly T OneMinusBeta1 = T.CreateTruncating(1 - s.Beta1);
    public readonly T Beta2 = T.CreateTruncating(s.Beta2);
    public readonly T OneMinusBeta2 = T.CreateTruncating(1 - s.Beta2);
    public readonly T MinusStepSize = T.CreateTruncating(-(s.LearningRate / (1 - Math.Pow(s.Beta1, s.Step))));
    public readonly T RootCorrection2 = T.CreateTruncating(Math.Sqrt(1 - Math.Pow(s.Beta2, s.Step)));
    public readonly T Epsilon = T.CreateTruncating(s.Epsilon);

    /// <summary>Which end the new mean is computed from: 1 − β₁ is below ½.</summary>
    public readonly bool NearOld = 1 - s.Beta1 < 0.5;
}
