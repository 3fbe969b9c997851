using System.Text.Json;
using Engine.Transformer;

namespace Engine.Lora.Tests;

/// <summary>Training every weight against PyTorch (tests/fixtures/parity/full), tied embeddings included.</summary>
public class FullParityTests
{
    [Theory]
    [InlineData("llama")]
    [InlineData("llama3")]
    [InlineData("gpt2")]
    [InlineData("qwen3")]
    public void Twenty_steps_follow_PyTorch(string name)
    {
        using JsonDocument json = Parity.Json("full", name, "case.json");
        using AdaptedModel model = ParityRun.Load(LoraParityTests.Base(json));
        TrainingRecord record = TrainingRecord.Read(json.RootElement);
        record.Follow(model, model.TrainBase());

        // After twenty steps the weights differ by rounding's effect on AdamW (below), so only the rule applies to logits.
        float[] expected = ParityRun.Tensors(ParityRun.PathOf("full", name, "expected.safetensors"))["logits_final"];
        float[] logits = ParityRun.Logits(model, ParityRun.Ids("eval_ids"));
        Assert.InRange(ParityRun.MaxDifference(expected, logits), 0, 2e-4 * ParityRun.Scale(expected));

        // 3 × float64's distance, as in LoraParityTests.AssertFinal. GPT-2's key biases have a gradient of exactly zero in
        // real numbers (softmax ignores what is added to all scores of a row), so AdamW turns its rounding into steps of up
        // to the learning rate; float64's distance shows it, and no element can go beyond 2 · steps · rate.
        double tolerance = 3 * Math.Max(1e-6, record.WeightDrift);
        JsonElement statistics = json.RootElement.GetProperty("final");
        Assert.Equal(statistics.EnumerateObject().Count(), model.Base.Parameters.Count);
        foreach (JsonProperty statistic in statistics.EnumerateObject())
        {
            float[] values = ParityRun.Floats(model.Base.Parameters[statistic.Name].Value);
            AssertNear(statistic, "mean", values.Average(v => (double)v), tolerance);
            AssertNear(statistic, "min", values.Min(), tolerance);
            AssertNear(statistic, "max", values.Max(), tolerance);
            AssertNear(statistic, "norm", Math.Sqrt(values.Sum(v => (double)v * v)), tolerance * Math.Sqrt(values.Length));
        }

        if (name == "llama")
        {
            foreach ((string key, float[] values) in ParityRun.Tensors(ParityRun.PathOf("full", name, "final.safetensors")))
            {
                Assert.InRange(ParityRun.MaxDifference(values, ParityRun.Floats(model.Base.Parameters[key].Value)), 0, tolerance);
            }
        }

        using var directory = new TemporaryDirectory();
        model.Base.Save(directory.Path);
        using var again = new AdaptedModel(DecoderModel.Load(directory.Path, null, TestDevice.Current));
        Assert.Equal(model.BaseHash(), again.BaseHash());
        Assert.Equal(ParityRun.Layout(ParityRun.PathOf("arch", name, "model.safetensors")), ParityRun.Layout(directory.File("model.safetensors")));
    }

    private static void AssertNear(JsonProperty statistic, string field, double actual, double tolerance)
    {
        double expected = statistic.Value.GetProperty(field).GetDouble();
        Assert.True(
            Math.Abs(expected - actual) <= tolerance, $"{statistic.Name}: {field} is {actual}, expected {expected} within {tolerance:e2}");
    }
}
