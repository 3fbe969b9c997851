using System.Text.Json;

namespace Engine.Cli.Demo;

/// <summary>One task's part of the demo.</summary>
/// <param name="Name"><c>sql</c> or <c>pandas</c>.</param>
/// <param name="ExactMatchBefore">Share of held-out answers the base gets right to the character.</param>
/// <param name="ExactMatchAfter">The same with the trained adapter.</param>
/// <param name="Seconds">Time of the fine-tuning.</param>
/// <param name="LossFirst">Mean loss of the first tenth of the steps.</param>
/// <param name="LossLast">Mean loss of the last tenth of the steps.</param>
internal sealed record DemoTask(
    string Name, double ExactMatchBefore, double ExactMatchAfter, double Seconds, double LossFirst, double LossLast);

/// <summary>What merging did.</summary>
/// <param name="MaxAbsLogitDiff">Largest difference between the logits of the adapter beside the base and merged into it.</param>
/// <param name="BaseRestored">Whether unmerging gave the base's exact bits back.</param>
/// <param name="HashBefore">Hash of all base parameters before the merge.</param>
/// <param name="HashAfter">The same after the unmerge.</param>
internal sealed record DemoMerge(double MaxAbsLogitDiff, bool BaseRestored, string HashBefore, string HashAfter);

/// <summary>What the mixed batch did.</summary>
/// <param name="Rows">Rows in the batch, both tasks' in turn.</param>
/// <param name="AgreesWithSingle">Whether every answer equals the one its adapter gives when it serves alone.</param>
internal sealed record DemoMixedBatch(int Rows, bool AgreesWithSingle);

/// <summary>The demo's results.</summary>
internal sealed record DemoReport(
    IReadOnlyList<DemoTask> Tasks, DemoMerge Merge, DemoMixedBatch MixedBatch, double TotalSeconds)
{
    /// <summary>The report as JSON.</summary>
    public void Write(Stream stream)
    {
        using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteStartArray("tasks");
        foreach (DemoTask task in Tasks)
        {
            json.WriteStartObject();
            json.WriteString("name", task.Name);
            json.WriteNumber("exact_match_before", task.ExactMatchBefore);
            json.WriteNumber("exact_match_after", task.ExactMatchAfter);
            json.WriteNumber("seconds", task.Seconds);
            json.WriteNumber("loss_first", task.LossFirst);
            json.WriteNumber("loss_last", task.LossLast);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartObject("merge");
        json.WriteNumber("max_abs_logit_diff", Merge.MaxAbsLogitDiff);
        json.WriteBoolean("base_restored", Merge.BaseRestored);
        json.WriteString("hash_before", Merge.HashBefore);
        json.WriteString("hash_after", Merge.HashAfter);
        json.WriteEndObject();
        json.WriteStartObject("mixed_batch");
        json.WriteNumber("rows", MixedBatch.Rows);
        json.WriteBoolean("agrees_with_single", MixedBatch.AgreesWithSingle);
        json.WriteEndObject();
        json.WriteNumber("total_seconds", TotalSeconds);
        json.WriteEndObject();
    }
}
