using System.Text.Json;

namespace Engine.Lora.Tests;

/// <summary>
/// Accumulation, clipping, weight decay and schedules against PyTorch and transformers (tests/fixtures/parity/optim). The
/// case accumulate_batches weights micro-batches equally whatever their number of labelled tokens; Engine's step is the mean
/// over the step's labelled tokens, so that case has no counterpart here.
/// </summary>
public class OptimizerParityTests
{
    [Theory]
    [InlineData("accumulate_tokens")]
    [InlineData("clip")]
    [InlineData("weight_decay")]
    [InlineData("cosine_warmup_clip")]
    [InlineData("cosine")]
    [InlineData("linear_warmup")]
    [InlineData("constant_warmup")]
    public void Steps_follow_PyTorch(string name)
    {
        using JsonDocument json = Parity.Json("optim", name, "case.json");
        JsonElement options = json.RootElement.GetProperty("options");
        TrainingRecord read = TrainingRecord.Read(json.RootElement);
        var record = new TrainingRecord
        {
            Loss = read.Loss,
            GradientNorm = read.GradientNorm,
            Rates = read.Rates,
            WeightDecay = read.WeightDecay,
            WeightDrift = read.WeightDrift,
            LossTolerance = read.LossTolerance,
            NormTolerance = read.NormTolerance,
            Clip = options.TryGetProperty("clip", out JsonElement clip) ? clip.GetDouble() : null,
            Micro = options.TryGetProperty("micro", out JsonElement micro) ? micro.GetInt32() : 1,
        };
        Assert.Equal(options.GetProperty("steps").GetInt32(), record.Loss.Length);
        LearningRateSchedule schedule = ScheduleOf(json.RootElement, options);
        for (int i = 0; i < record.Rates.Length; i++)
        {
            // The same formula in double precision: a few roundings.
            Assert.InRange(schedule.At(i), record.Rates[i] - 1e-17, record.Rates[i] + 1e-17);
        }

        using AdaptedModel model = ParityRun.Load(LoraParityTests.Base(json));
        LoraAdapter adapter = AdapterFile.Load(model, name, ParityRun.PathOf("optim", "adapter_init"));
        record.Follow(model, model.Train(name), schedule.At);
        Dictionary<string, float[]> expected = ParityRun.Tensors(ParityRun.PathOf("optim", name, "final.safetensors"));
        Assert.Equal(expected.Count, adapter.Parameters.Count());
        foreach (Autograd.Variable parameter in adapter.Parameters)
        {
            // As in LoraParityTests.AssertFinal.
            double difference = ParityRun.MaxDifference(expected[AdapterKeys.Prefix + parameter.Name], ParityRun.Floats(parameter.Value));
            Assert.InRange(difference, 0, 3 * Math.Max(1e-6, record.WeightDrift));
        }
    }

    private static LearningRateSchedule ScheduleOf(JsonElement root, JsonElement options)
    {
        double peak = root.GetProperty("train").GetProperty("lr_peak").GetDouble();
        if (!options.TryGetProperty("schedule", out JsonElement kind))
        {
            return new LearningRateSchedule(ScheduleKind.Constant, peak, 0, 1);
        }

        JsonElement schedule = root.GetProperty("schedule");
        return new LearningRateSchedule(
            Enum.Parse<ScheduleKind>(kind.GetString()!.Split('_')[0], ignoreCase: true),
            peak,
            schedule.GetProperty("num_warmup_steps").GetInt32(),
            schedule.GetProperty("num_training_steps").GetInt32());
    }
}
