using System.CommandLine;
using System.Diagnostics;
using System.Globalization;

namespace Engine.Cli.Demo;

/// <summary><c>engine demo base</c>: makes the embedded base model again, from nothing.</summary>
internal static class BaseCommand
{
    /// <summary>Steps the embedded model was trained for.</summary>
    public const int Steps = 1768;

    private const int ReportEvery = 50;

    public static Command Create(GlobalOptions global)
    {
        var directory = OptionOf.Text("--out", "DIR", "Directory of the model and of its checkpoint.", required: true);
        var steps = OptionOf.Integer("--steps", "Optimizer steps.", Steps, min: 1);
        var minutes = OptionOf.OptionalNumber(
            "--minutes", "Stop after this time and leave a checkpoint; the same command goes on from it (no limit).");
        var command = new Command("base", """
            Trains the demo's base model again from its recipe: vocabulary, text and weights from a seed (hours on two cores).

            Ctrl+C finishes the step, writes a checkpoint and exits with code 130; the same command goes on from it.

            Example:
              engine demo base --out base
            """);
        foreach (Option option in (Option[])[directory, steps, minutes])
        {
            command.Add(option);
        }

        global.Handle(command, context => Run(context, context.Get(directory)!, context.Get(steps), context.Get(minutes)));
        return command;
    }

    private static int Run(CommandContext context, string directory, int steps, double? minutes)
    {
        double sum = 0;
        int count = 0;
        long begin = Stopwatch.GetTimestamp();
        CancellationToken cancellation = context.Console.Cancellation;
        bool done = new BaseRecipe(steps).Run(
            directory, context.Device, () => Stopwatch.GetElapsedTime(begin).TotalMinutes >= minutes, Report, cancellation);
        if (!done)
        {
            context.Console.Error.WriteLine($"stopped; the same command goes on from the checkpoint in {directory}");
            return cancellation.IsCancellationRequested ? ExitCode.Interrupted : ExitCode.Success;
        }

        context.Console.Output.WriteLine($"the model is in {directory}");
        return ExitCode.Success;

        void Report(int step, double loss, double speed)
        {
            sum += loss;
            if (++count == ReportEvery || step == steps)
            {
                context.Note(string.Create(CultureInfo.InvariantCulture, $"step {step}/{steps}  loss {sum / count:F4}  {speed:F0} tokens/s"));
                (sum, count) = (0, 0);
            }
        }
    }
}
