using Engine.Lora;

namespace Engine.Cli.Demo;

/// <summary>Shows a person what the demo is doing.</summary>
internal interface IDemoDisplay
{
    /// <summary>The base is loaded.</summary>
    void OnModel(long parameters, int vocabulary);

    /// <summary>Held-out rows are being measured, <paramref name="when"/> is <c>before</c> or <c>after</c>.</summary>
    void OnEvaluation(string task, string when, EvaluationProgress progress);

    /// <summary>One held-out row with what the model wrote.</summary>
    void OnSample(string task, string when, string prompt, string generated, string reference);

    /// <summary>A training step is done.</summary>
    void OnStep(string task, TrainingMetrics metrics);

    /// <summary>A task is done; all losses, for a curve.</summary>
    void OnTask(DemoTask task, IReadOnlyList<double> losses);

    /// <summary>The mixed batch's answers in order of the rows.</summary>
    void OnMixed(IReadOnlyList<(string Adapter, string Text)> answers);

    /// <summary>All is done; where the files are, if they were kept.</summary>
    void OnReport(DemoReport report, string? output);
}
