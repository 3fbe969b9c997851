using System.Globalization;
using Engine.Cli.Demo;
using Engine.Lora;
using Engine.Tensors;

namespace Engine.Cli;

/// <summary>The demo on a console.</summary>
internal sealed class DemoDisplay(CommandConsole console, bool quiet) : IDemoDisplay, IDisposable
{
    private readonly StatusLine _status = new(console, quiet);
    private readonly List<LossSeries> _curves = [];
    private TrainingDisplay? _training;

    public void OnModel(long parameters, int vocabulary) =>
        _status.Print($"base model: {Results.Count(parameters)} parameters, vocabulary of {Results.Count(vocabulary)}");

    public void OnEvaluation(string task, string when, EvaluationProgress progress)
    {
        EndTraining();
        string phase = progress.Phase == EvaluationPhase.Loss ? "loss" : "answering";
        _status.Show($"{task}: held-out rows {when} training, {phase} {progress.Done}/{progress.Total}");
    }

    public void OnSample(string task, string when, string prompt, string generated, string reference)
    {
        if (when == "before")
        {
            _status.Print($"\n{task}: a held-out row\n{Indent(prompt)}\n  wanted  {OneLine(reference)}");
        }

        _status.Print($"  {when,-6}  {OneLine(generated)}");
    }

    public void OnStep(string task, TrainingMetrics metrics)
    {
        _status.Clear();
        _training ??= new TrainingDisplay(console, quiet, $"{task}: ");
        _training.OnStep(metrics);
    }

    public void OnTask(DemoTask task, IReadOnlyList<double> losses)
    {
        EndTraining();
        _curves.Add(new LossSeries(task.Name, [.. losses.Select((loss, i) => new LossPoint(i + 1, loss))], []));
        _status.Print(string.Create(
            CultureInfo.InvariantCulture,
            $"{task.Name}: loss {task.LossFirst:0.000} → {task.LossLast:0.000}, exact match {100 * task.ExactMatchBefore:0.0}% → {100 * task.ExactMatchAfter:0.0}%, trained in {task.Seconds:0.0} s"));
    }

    public void OnMixed(IReadOnlyList<(string Adapter, string Text)> answers)
    {
        _status.Print($"\none forward pass, {answers.Count} rows, each with its own adapter:");
        foreach ((string adapter, string text) in answers.Take(4))
        {
            _status.Print($"  {adapter,-6}  {OneLine(text)}");
        }
    }

    public void OnReport(DemoReport report, string? output)
    {
        _status.Clear();
        TextWriter writer = console.Output;
        console.WriteTable(
            ["task", ">exact match before", ">after", ">loss first", ">last", ">seconds"],
            report.Tasks.Select(t => new[]
            {
                t.Name, Percent(t.ExactMatchBefore), Percent(t.ExactMatchAfter), Number(t.LossFirst, "0.000"), Number(t.LossLast, "0.000"), Number(t.Seconds, "0.0"),
            }));
        writer.WriteLine(
            $"merge: logits differ by at most {Number(report.Merge.MaxAbsLogitDiff, "0.0e+0")}; unmerged, the base {(report.Merge.BaseRestored ? "has its exact bits again" : "is NOT restored")} ({report.Merge.HashAfter})");
        writer.WriteLine(
            $"mixed batch: {report.MixedBatch.Rows} rows, {(report.MixedBatch.AgreesWithSingle ? "every answer as from its adapter alone" : "answers DIFFER from the adapters alone")}");
        writer.WriteLine($"total: {Number(report.TotalSeconds, "0.0")} s");
        if (output is not null)
        {
            AtomicFile.WriteAllText(Path.Combine(output, "loss.svg"), LossChart.Draw(_curves, "Training loss of the demo's adapters"));
            writer.WriteLine($"kept in {output}: base, sql and pandas (PEFT adapters), merged-sql (a plain model), loss.svg");
        }
    }

    public void Dispose()
    {
        EndTraining();
        _status.Dispose();
    }

    private void EndTraining()
    {
        _training?.Dispose();
        _training = null;
    }

    private static string Percent(double share) => Number(100 * share, "0.0") + "%";

    private static string Number(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);

    private static string OneLine(string text) => text.Trim().ReplaceLineEndings(" ⏎ ");

    private static string Indent(string text) => "  " + text.Trim().ReplaceLineEndings("\n  ");
}
