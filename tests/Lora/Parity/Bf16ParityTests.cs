using System.Text.Json;
using Engine.Autograd;
using Engine.Lora.Data;
using Engine.Tensors;

namespace Engine.Lora.Tests;

/// <summary>Adapters on a bf16 base against PEFT on a bf16 base: how far each is from PEFT's fp32 results.</summary>
public class Bf16ParityTests
{
    private static readonly Bf16Errors s_peft = new("lora");

    public static TheoryData<string> Cases => [.. s_peft.Cases];

    [Fact]
    public void Every_case_was_measured()
    {
        Assert.Equal(LoraParityTests.Cases.Select(row => row.Data), s_peft.Cases);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Logits_in_bf16_are_as_close_as_PEFTs(string name)
    {
        using JsonDocument json = Parity.Json("lora", name, "case.json");
        Dictionary<string, float[]> expected = ParityRun.Tensors(ParityRun.PathOf("lora", name, "expected.safetensors"));
        foreach (string state in new[] { "init", "final" })
        {
            if (s_peft.Has(name, $"logits_{state}"))
            {
                using AdaptedModel model = LoraParityTests.Start(json, name, $"adapter_{state}", out _, DType.BF16, TestDevice.Current);
                double[] logits = Doubles(ParityRun.Logits(model, ParityRun.Ids("eval_ids")));
                s_peft.AssertWithinTwice(name, $"logits_{state}", Doubles(expected[$"logits_{state}"]), logits);
            }
        }
    }

    /// <summary>
    /// A loss is one number, whose error may be near zero by chance, so the rule is applied to the root mean square over all
    /// cases and their first steps.
    /// </summary>
    [Fact]
    public void First_losses_in_bf16_are_as_close_as_PEFTs()
    {
        string[] trained = [.. s_peft.Cases.Where(c => s_peft.Has(c, "losses"))];
        Assert.True(trained.Length >= 30, $"only {trained.Length} cases have losses");
        double ours = Math.Sqrt(trained.Average(c => Square(LossError(c))));
        double theirs = Math.Sqrt(trained.Average(c => Square(s_peft.Of(c, "losses").Rms)));
        Assert.True(ours <= 2 * theirs, $"the rms error of the losses is {ours:e2}, PEFT's {theirs:e2}");
    }

    private static double LossError(string name)
    {
        const int Steps = 5; // as many as bf16_errors.py takes
        using JsonDocument json = Parity.Json("lora", name, "case.json");
        TrainingRecord record = TrainingRecord.Read(json.RootElement);
        using AdaptedModel model = LoraParityTests.Start(json, name, "adapter_init", out LoraAdapter adapter, DType.BF16, TestDevice.Current);
        using var step = new TrainingStep(model, model.Train(adapter.Name), new AdamWOptions(WeightDecay: record.WeightDecay));
        Batch[] batches = ParityRun.Batches();
        double[] losses = [.. Enumerable.Range(0, Steps).Select(i => (double)step.Run([batches[i % batches.Length]], record.Rates[i]).Loss)];
        return Bf16Errors.Measure(record.Loss[..Steps], losses).Rms;
    }

    private static double Square(double value) => value * value;

    private static double[] Doubles(float[] values) => Array.ConvertAll(values, v => (double)v);
}
