using System.Text.Json;
using Engine.Cli.Demo;
using Engine.Lora;
using Engine.Tensors;

namespace Engine.Cli.Tests.Demo;

/// <summary>The demo as a user runs it, on half of the held-out rows.</summary>
public sealed class DemoRunnerTests
{
    [Fact]
    public void Both_tasks_are_learned_merged_undone_and_mixed()
    {
        DemoReport report = new DemoRunner(new DemoOptions(HeldOutRows: 100), Device.Cpu, new Silent(), CancellationToken.None).Run();
        Assert.Equal(["sql", "pandas"], report.Tasks.Select(t => t.Name));
        foreach (DemoTask task in report.Tasks)
        {
            // The figures the demo promises: under 5% before, at least 60% after.
            Assert.True(task.ExactMatchBefore < 0.05, $"{task.Name}: {task.ExactMatchBefore} before training");
            Assert.True(task.ExactMatchAfter >= 0.6, $"{task.Name}: {task.ExactMatchAfter} after training");
            Assert.True(task.LossLast < task.LossFirst / 4, $"{task.Name}: loss {task.LossFirst} to {task.LossLast}");
        }

        // Merging rounds each weight once: the logits move by some roundings of f32 (u = 6e-8) of values around 10, through
        // four layers; 1e-3 is far above that and far below what a wrong merge does.
        Assert.InRange(report.Merge.MaxAbsLogitDiff, 1e-9, 1e-3);
        Assert.True(report.Merge.BaseRestored);
        Assert.Equal(report.Merge.HashBefore, report.Merge.HashAfter);
        Assert.Equal(16, report.MixedBatch.Rows);
        Assert.True(report.MixedBatch.AgreesWithSingle);
        using var stream = new MemoryStream();
        report.Write(stream);
        using JsonDocument json = JsonDocument.Parse(stream.ToArray());
        Assert.Equal(2, json.RootElement.GetProperty("tasks").GetArrayLength());
        Assert.True(json.RootElement.GetProperty("merge").GetProperty("base_restored").GetBoolean());
        Assert.True(json.RootElement.GetProperty("mixed_batch").GetProperty("agrees_with_single").GetBoolean());
        Assert.True(json.RootElement.GetProperty("total_seconds").GetDouble() > 0);
    }

    [Fact]
    public void Cancelling_stops_the_demo()
    {
        using var source = new CancellationTokenSource();
        source.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() =>
            new DemoRunner(new DemoOptions(HeldOutRows: 4), Device.Cpu, new Silent(), source.Token).Run());
    }

    private sealed class Silent : IDemoDisplay
    {
        public void OnModel(long parameters, int vocabulary)
        {
        }

        public void OnEvaluation(string task, string when, EvaluationProgress progress)
        {
        }

        public void OnSample(string task, string when, string prompt, string generated, string reference)
        {
        }

        public void OnStep(string task, TrainingMetrics metrics)
        {
        }

        public void OnTask(DemoTask task, IReadOnlyList<double> losses)
        {
        }

        public void OnMixed(IReadOnlyList<(string Adapter, string Text)> answers)
        {
        }

        public void OnReport(DemoReport report, string? output)
        {
        }
    }
}
