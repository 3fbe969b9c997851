using System.Globalization;
using Engine.Lora;

namespace Engine.Cli;

/// <summary>What <c>engine train</c> prints at the end.</summary>
internal sealed record TrainSummary(FineTuning Tuning, TrainingOutcome Outcome, long Tokens, TimeSpan Time)
{
    public void Write(CommandConsole console, bool json)
    {
        TrainingHistory history = Tuning.History;
        double first = history.Training.Count > 0 ? history.Training[0].Loss : double.NaN;
        double last = history.Training.Count > 0 ? history.Training[^1].Loss : double.NaN;
        double? heldOut = history.Evaluation.Count > 0 ? history.Evaluation[^1].Loss : null;
        string output = Tuning.Options.Out!;
        if (json)
        {
            console.Output.WriteJson(writer =>
            {
                writer.WriteStartObject();
                writer.WriteString("out", output);
                writer.WriteString("method", Tuning.Adapter is null ? "full" : "lora");
                writer.WriteString("end", Outcome.End == TrainingEnd.StoppedEarly ? "stopped_early" : "completed");
                writer.WriteNumber("steps", Outcome.Steps);
                writer.WriteFinite("loss_first", first);
                writer.WriteFinite("loss_last", last);
                if (heldOut is { } loss)
                {
                    writer.WriteFinite("eval_loss", loss);
                }

                writer.WriteNumber("trainable_parameters", Tuning.Run.Trained.Sum(p => p.Value.Elements));
                writer.WriteNumber("tokens", Tokens);
                writer.WriteNumber("seconds", Math.Round(Time.TotalSeconds, 3));
                writer.WriteEndObject();
            });
            return;
        }

        string what = Tuning.Adapter is null ? "model" : "adapter";
        string early = Outcome.End == TrainingEnd.StoppedEarly ? " (the held-out loss stopped falling)" : "";
        string tail = heldOut is { } final ? string.Create(CultureInfo.InvariantCulture, $", held-out loss {final:0.0000}") : "";
        console.Output.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{what} saved in {output}: {Outcome.Steps} steps{early}, loss {first:0.0000} → {last:0.0000}{tail}, {Results.Duration(Time)}, {Tokens / Math.Max(Time.TotalSeconds, 1e-9):N0} tokens/s"));
    }
}
