using System.Globalization;
using Engine.Lora;
using Spectre.Console;

namespace Engine.Cli.Demo;

/// <summary>
/// The demo on a console: a status line that rewrites itself on a terminal, plain lines elsewhere; nothing but the closing
/// table when quiet.
/// </summary>
internal sealed class ConsoleDemoDisplay(IAnsiConsole console, bool quiet) : IDemoDisplay
{
    private const int PlainEvery = 25;

    private readonly bool _live = console.Profile.Capabilities.Ansi && console.Profile.Out.IsTerminal;
    private bool _lineOpen;

    public void OnModel(long parameters, int vocabulary) => Line(
        $"[bold]Base model[/]: {parameters:N0} parameters, vocabulary {vocabulary:N0}, trained by this engine on text without SQL or pandas");

    public void OnEvaluation(string task, string when, EvaluationProgress progress)
    {
        if (progress.Phase == EvaluationPhase.Generation)
        {
            Status($"{task}: measuring exact match {when} training, {progress.Done}/{progress.Total} held-out rows");
        }
    }

    public void OnSample(string task, string when, string prompt, string generated, string reference)
    {
        if (when == "before")
        {
            Line($"\n[bold]{task}[/], a held-out row:\n[grey]{Markup.Escape(prompt.Trim())}[/]");
        }

        Line($"  {when,-6} [{(generated.Trim() == reference ? "green" : "yellow")}]{Markup.Escape(generated.Trim())}[/]");
    }

    public void OnStep(string task, TrainingMetrics metrics)
    {
        if (_live || metrics.Step % PlainEvery == 0)
        {
            Status(string.Create(
                CultureInfo.InvariantCulture,
                $"{task}: step {metrics.Step}/{metrics.TotalSteps}  loss {metrics.Loss:F4}  grad norm {metrics.GradientNorm:F3}  {metrics.TokensPerSecond:F0} tokens/s"));
        }
    }

    public void OnTask(DemoTask task, IReadOnlyList<double> losses) => Line(string.Create(
        CultureInfo.InvariantCulture,
        $"  loss {Sparkline(losses)} {task.LossFirst:F3} → {task.LossLast:F3} in {task.Seconds:F1} s; exact match {task.ExactMatchBefore:P1} → [bold]{task.ExactMatchAfter:P1}[/]"));

    public void OnMixed(IReadOnlyList<(string Adapter, string Text)> answers)
    {
        Line("\n[bold]One batch, two adapters[/], the first rows:");
        foreach ((string adapter, string text) in answers.Take(4))
        {
            Line($"  {adapter,-6} [green]{Markup.Escape(text.Trim())}[/]");
        }
    }

    public void OnReport(DemoReport report, string? output)
    {
        EndStatus();
        var table = new Table().Border(TableBorder.Rounded);
        table.AddColumns("task", "exact match before", "after", "seconds", "loss first", "last");
        foreach (DemoTask task in report.Tasks)
        {
            table.AddRow(
                task.Name, Percent(task.ExactMatchBefore), Percent(task.ExactMatchAfter), Number(task.Seconds, "F1"), Number(task.LossFirst, "F3"), Number(task.LossLast, "F3"));
        }

        console.Write(table);
        console.MarkupLine(string.Create(
            CultureInfo.InvariantCulture,
            $"merge: logits differ by at most {report.Merge.MaxAbsLogitDiff:E1}; unmerged base {(report.Merge.BaseRestored ? "[green]has its exact bits again[/]" : "[red]differs[/]")} ({report.Merge.HashBefore[..8]} → {report.Merge.HashAfter[..8]})"));
        console.MarkupLine(
            $"mixed batch: {report.MixedBatch.Rows} rows in one forward pass {(report.MixedBatch.AgreesWithSingle ? "[green]agree with their adapters alone[/]" : "[red]differ from their adapters alone[/]")}");
        console.MarkupLine(string.Create(CultureInfo.InvariantCulture, $"total: {report.TotalSeconds:F1} s"));
        if (output is not null)
        {
            console.MarkupLine($"kept in {Markup.Escape(output)}: base, sql and pandas (PEFT adapters), merged-sql (a plain model)");
        }
    }

    private static string Percent(double share) => share.ToString("P1", CultureInfo.InvariantCulture);

    private static string Number(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);

    // The losses' logarithms in eight heights, forty columns wide.
    private static string Sparkline(IReadOnlyList<double> losses)
    {
        const string Bars = "▁▂▃▄▅▆▇█";
        int columns = Math.Min(40, losses.Count);
        double[] values = [.. Enumerable.Range(0, columns).Select(c =>
            Math.Log(Math.Max(1e-6, losses.Skip(c * losses.Count / columns).Take(Math.Max(1, losses.Count / columns)).Average())))];
        double low = values.Min();
        double span = Math.Max(1e-9, values.Max() - low);
        return string.Concat(values.Select(v => Bars[(int)Math.Round((v - low) / span * (Bars.Length - 1))]));
    }

    private void Status(string text)
    {
        if (quiet)
        {
            return;
        }

        if (_live)
        {
            console.Write(new ControlCode("\r\u001b[2K"));
            console.Write(new Text(text));
            _lineOpen = true;
        }
        else
        {
            console.WriteLine(text);
        }
    }

    private void Line(string markup)
    {
        EndStatus();
        if (!quiet)
        {
            console.MarkupLine(markup);
        }
    }

    private void EndStatus()
    {
        if (_lineOpen)
        {
            console.Write(new ControlCode("\r\u001b[2K"));
            _lineOpen = false;
        }
    }
}
