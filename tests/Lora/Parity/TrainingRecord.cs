using System.Text.Json;
using Engine.Autograd;
using Engine.Lora.Data;

namespace Engine.Lora.Tests;

/// <summary>
/// A recorded training run of the reference: losses and gradient norms of each step, and how far the same run in float64
/// is from it. Engine repeats it with the same batches.
/// </summary>
/// <remarks>
/// Tolerances. The rule for losses is 1e-4, relative. The tight bound follows from the float64 run: its distance d from
/// the float32 run is what rounding does to this very training, and Engine rounds as often, in another order. By the
/// project's rule Engine may be 2d from the exact values, so 3d from the reference's float32 ones. d is the largest of
/// some twenty samples and comes to a handful of units in the last place, so it is not taken below four of them
/// (4·2⁻²³): another order of summation cannot be expected to beat that.
/// </remarks>
internal sealed class TrainingRecord
{
    public const double Rule = 1e-4;
    private const double LeastDrift = 4.0 / (1 << 23);

    public required double[] Loss { get; init; }

    public required double[] GradientNorm { get; init; }

    public required double[] Rates { get; init; }

    public required double WeightDecay { get; init; }

    /// <summary>How far float64's final weights are from float32's, the largest element.</summary>
    public required double WeightDrift { get; init; }

    public required double LossTolerance { get; init; }

    public required double NormTolerance { get; init; }

    public double? Clip { get; init; }

    /// <summary>Micro-batches to a step.</summary>
    public int Micro { get; init; } = 1;

    public static TrainingRecord Read(JsonElement root, string field = "train")
    {
        JsonElement train = root.GetProperty(field);
        JsonElement drift = root.GetProperty("float64");
        return new TrainingRecord
        {
            Loss = Doubles(train.GetProperty("loss")),
            GradientNorm = Doubles(train.GetProperty("grad_norm")),
            Rates = Doubles(train.GetProperty("lr")),
            WeightDecay = train.GetProperty("weight_decay").GetDouble(),
            WeightDrift = drift.GetProperty("final_weights_max_diff").GetDouble(),
            LossTolerance = 3 * Math.Max(LeastDrift, drift.GetProperty("loss_max_rel_diff").GetDouble()),
            NormTolerance = 3 * Math.Max(LeastDrift, drift.GetProperty("grad_norm_max_rel_diff").GetDouble()),
            Clip = train.TryGetProperty("clip", out JsonElement clip) && clip.ValueKind == JsonValueKind.Number ? clip.GetDouble() : null,
        };
    }

    /// <summary>Makes the same steps and compares each; <paramref name="rates"/> in place of the recorded ones.</summary>
    public void Follow(AdaptedModel model, IReadOnlyList<Variable> trained, Func<int, double>? rates = null)
    {
        Batch[] batches = ParityRun.Batches();
        using var step = new TrainingStep(model, trained, new AdamWOptions(WeightDecay: WeightDecay)) { Clip = Clip };
        Assert.NotEmpty(Loss);
        for (int i = 0; i < Loss.Length; i++)
        {
            Batch[] micro = [.. Enumerable.Range(0, Micro).Select(m => batches[((i * Micro) + m) % batches.Length])];
            StepResult result = step.Run(micro, rates?.Invoke(i) ?? Rates[i]);
            double loss = Relative(Loss[i], result.Loss);
            double norm = Relative(GradientNorm[i], result.GradientNorm);
            Assert.True(loss <= Rule, $"step {i + 1}: the loss is {result.Loss}, expected {Loss[i]}: beyond the rule");
            Assert.True(loss <= LossTolerance, $"step {i + 1}: the loss is {result.Loss}, expected {Loss[i]}: {loss:e2} > {LossTolerance:e2}");
            Assert.True(
                norm <= NormTolerance,
                $"step {i + 1}: the norm is {result.GradientNorm}, expected {GradientNorm[i]}: {norm:e2} > {NormTolerance:e2}");
        }
    }

    private static double Relative(double expected, double actual)
    {
        double difference = Math.Abs(expected - actual) / Math.Abs(expected);
        return double.IsFinite(difference) ? difference : double.PositiveInfinity;
    }

    private static double[] Doubles(JsonElement array) => [.. array.EnumerateArray().Select(v => v.GetDouble())];
}
