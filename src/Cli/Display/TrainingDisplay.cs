using System.Diagnostics;
using System.Globalization;
using Engine.Lora;

namespace Engine.Cli;

/// <summary>
/// A training's progress: one live line on a terminal, else a plain line about every fiftieth of the run; evaluations and
/// checkpoints as lines that stay.
/// </summary>
internal sealed class TrainingDisplay : ITrainingObserver, IDisposable
{
    private const int PlainLines = 50;
    private const int BarWidth = 20;

    private readonly StatusLine _status;
    private readonly string _label;
    private readonly bool _quiet;
    private readonly double? _peak;
    private readonly long _begin = Stopwatch.GetTimestamp();
    private int _stepsSeen;

    /// <summary>Makes the display.</summary>
    /// <param name="console">Where it is shown.</param>
    /// <param name="quiet">Nothing but what stays.</param>
    /// <param name="label">What lines begin with.</param>
    /// <param name="peak">FLOP/s that model FLOPs are shown as a share of (MFU); null to leave it out.</param>
    public TrainingDisplay(CommandConsole console, bool quiet, string label = "", double? peak = null)
    {
        _status = new StatusLine(console, quiet);
        _quiet = quiet;
        _label = label;
        _peak = peak;
    }

    /// <summary>Tokens read so far.</summary>
    public long Tokens { get; private set; }

    public void OnStep(TrainingMetrics metrics)
    {
        _stepsSeen++;
        Tokens += metrics.Tokens;
        bool last = metrics.Step == metrics.TotalSteps;
        if (_status.IsLive)
        {
            _status.Show(Line(metrics, bar: true), last);
            return;
        }

        int interval = Math.Max(1, metrics.TotalSteps / PlainLines);
        if (!_quiet && (_stepsSeen == 1 || last || metrics.Step % interval == 0))
        {
            _status.Print(Line(metrics, bar: false));
        }
    }

    public void OnEvaluation(int step, EvaluationResult result, bool isBest) => _status.Print(string.Create(
        CultureInfo.InvariantCulture,
        $"{_label}step {step}: held-out loss {result.Loss:0.0000}, perplexity {result.Perplexity:0.00}{(isBest ? " (best)" : "")}"));

    public void OnCheckpoint(int step, string directory) => _status.Print($"{_label}step {step}: checkpoint {directory}");

    public void Dispose() => _status.Dispose();

    private string Line(TrainingMetrics m, bool bar)
    {
        double perStep = Stopwatch.GetElapsedTime(_begin).TotalSeconds / _stepsSeen;
        string left = Results.Duration(TimeSpan.FromSeconds(perStep * (m.TotalSteps - m.Step)));
        string utilization = _peak is { } peak ? string.Create(CultureInfo.InvariantCulture, $"  MFU {100 * m.FlopsPerSecond / peak:0}%") : "";
        string progress = bar ? $"{Bar(m.Step, m.TotalSteps)} " : "";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{_label}{progress}step {m.Step}/{m.TotalSteps}  loss {m.Loss:0.0000}  grad norm {m.GradientNorm:0.000}  lr {m.LearningRate:0.00e+0}  {m.TokensPerSecond:N0} tokens/s{utilization}  {left} left");
    }

    private static string Bar(int done, int total)
    {
        int filled = (int)((long)BarWidth * done / Math.Max(1, total));
        return string.Concat(new string('━', filled), new string('─', BarWidth - filled));
    }
}
