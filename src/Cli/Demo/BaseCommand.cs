using System.CommandLine;
using System.Globalization;

namespace Engine.Cli.Demo;

/// <summary><c>engine demo base</c>: makes the embedded base model again, from nothing.</summary>
internal static class BaseCommand
{
    /// <summary>Steps the embedded model was trained for.</summary>
    public const int Steps = 1768;

    private const int ReportEvery = 50;

    /// <summary>The command; <paramref name="output"/> receives its lines.</summary>
    public static Command Create(Func<TextWriter> output)
    {
        var directory = new Option<DirectoryInfo>("--out") { Description = "Directory of the model and of its checkpoint.", Required = true };
        var steps = new Option<int>("--steps") { Description = "Optimizer steps.", DefaultValueFactory = _ => Steps };
        var minutes = new Option<double>("--minutes")
        {
            Description = "Stop after this time and leave a checkpoint; the same command goes on from it.",
            DefaultValueFactory = _ => 24 * 60,
        };
        var command = new Command(
            "base", "Train the demo's base model again from its recipe: vocabulary, text and weights from a seed (hours on two cores).")
        {
            directory,
            steps,
            minutes,
        };
        command.SetAction(parse => Run(
            output(), parse.GetRequiredValue(directory).FullName, parse.GetValue(steps), TimeSpan.FromMinutes(parse.GetValue(minutes))));
        return command;
    }

    private static int Run(TextWriter output, string directory, int steps, TimeSpan limit)
    {
        double sum = 0;
        int count = 0;
        DateTime end = DateTime.UtcNow + limit;
        bool done = new BaseRecipe(steps).Run(directory, () => DateTime.UtcNow >= end, (step, loss, speed) =>
        {
            sum += loss;
            if (++count == ReportEvery || step == steps)
            {
                output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"step {step}/{steps}  loss {sum / count:F4}  {speed:F0} tokens/s"));
                (sum, count) = (0, 0);
            }
        });
        output.WriteLine(done ? $"the model is in {directory}" : $"stopped; the same command goes on from the checkpoint in {directory}");
        return 0;
    }
}
