namespace Engine.Lora;

/// <summary>How the learning rate goes on after the warm-up.</summary>
public enum ScheduleKind
{
    /// <summary>It stays.</summary>
    Constant,

    /// <summary>It falls in a straight line to zero at the last step.</summary>
    Linear,

    /// <summary>It falls along half a cosine to zero at the last step.</summary>
    Cosine,
}

/// <summary>
/// The learning rate of each optimizer step: a linear warm-up from zero, then constant, linear or cosine; the formulas
/// of transformers' <c>get_constant_schedule_with_warmup</c>, <c>get_linear_schedule_with_warmup</c> and
/// <c>get_cosine_schedule_with_warmup</c> (half a period). With T steps in all, w of them warm-up:
/// <code>
/// k &lt; w      factor = k / w
/// constant   factor = 1
/// linear     factor = max(0, (T − k) / max(1, T − w))
/// cosine     factor = max(0, ½ (1 + cos(π (k − w) / max(1, T − w))))
/// </code>
/// </summary>
public sealed record LearningRateSchedule
{
    /// <summary>Creates a schedule.</summary>
    /// <param name="kind">How it goes on after the warm-up.</param>
    /// <param name="peak">The learning rate after the warm-up, 0 or more.</param>
    /// <param name="warmupSteps">w, 0 or more.</param>
    /// <param name="totalSteps">T, at least 1; not used by <see cref="ScheduleKind.Constant"/>.</param>
    public LearningRateSchedule(ScheduleKind kind, double peak, int warmupSteps, int totalSteps)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(peak);
        ArgumentOutOfRangeException.ThrowIfNegative(warmupSteps);
        ArgumentOutOfRangeException.ThrowIfLessThan(totalSteps, 1);
        (Kind, Peak, WarmupSteps, TotalSteps) = (kind, peak, warmupSteps, totalSteps);
    }

    /// <summary>How it goes on after the warm-up.</summary>
    public ScheduleKind Kind { get; }

    /// <summary>The learning rate after the warm-up.</summary>
    public double Peak { get; }

    /// <summary>Steps of warm-up.</summary>
    public int WarmupSteps { get; }

    /// <summary>Steps in all.</summary>
    public int TotalSteps { get; }

    /// <summary>
    /// The learning rate of optimizer step <paramref name="step"/>, counted from 0: with a warm-up the first is 0.
    /// </summary>
    public double At(int step) => Peak * Factor(step);

    /// <summary>The factor on the peak at <paramref name="step"/>, counted from 0, in [0, 1].</summary>
    public double Factor(int step)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(step);
        if (step < WarmupSteps)
        {
            return (double)step / WarmupSteps;
        }

        double span = Math.Max(1, TotalSteps - WarmupSteps);
        return Kind switch
        {
            ScheduleKind.Linear => Math.Max(0.0, (TotalSteps - step) / span),
            ScheduleKind.Cosine => step >= TotalSteps
                ? 0.0
                : Math.Max(0.0, 0.5 * (1.0 + Math.Cos(Math.PI * ((step - WarmupSteps) / span)))),
            _ => 1.0,
        };
    }
}
