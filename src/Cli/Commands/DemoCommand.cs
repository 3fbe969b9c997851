using System.CommandLine;
using Engine.Cli.Demo;
using Engine.Tensors;

namespace Engine.Cli;

/// <summary><c>engine demo</c>: the whole loop on the embedded model.</summary>
internal static class DemoCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("demo", """
            Fine-tunes the embedded base model on two tasks, question and table to SQL and to pandas, one adapter each;
            measures exact match on held-out rows before and after; merges one adapter and undoes it to the bit; answers a
            batch that mixes both tasks, each row with its own adapter. Needs no files and no network.

            Example:
              engine demo --json result.json
            """);
        var json = OptionOf.Text("--json", "FILE", "Write the figures as JSON.");
        var output = OptionOf.Text("--out", "DIR", "Keep the base, the adapters, the merged model and the loss curves there.");
        var seed = OptionOf.Seed("Seed of the adapters' first values and of the data order.");

        // A short run shows that everything works together, not what is learned.
        var defaults = new DemoOptions();
        var steps = OptionOf.Integer("--steps", "Optimizer steps for each task.", defaults.Steps, min: 1);
        var rows = OptionOf.Integer("--rows", "Held-out rows to measure on.", defaults.HeldOutRows, min: 1);
        (steps.Hidden, rows.Hidden) = (true, true);
        command.Add(json);
        command.Add(output);
        command.Add(seed);
        command.Add(steps);
        command.Add(rows);
        command.Add(BaseCommand.Create(global));
        global.Handle(command, context =>
        {
            var options = new DemoOptions((ulong)context.Get(seed), context.Get(output), context.Get(steps), context.Get(rows));
            using var display = new DemoDisplay(context.Console, context.Quiet);
            DemoReport report = new DemoRunner(options, context.Device, display, context.Console.Cancellation).Run();
            if (context.Get(json) is { } path)
            {
                AtomicFile.Write(path, report.Write);
            }

            return ExitCode.Success;
        });
        return command;
    }
}
