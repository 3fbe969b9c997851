using System.CommandLine;

namespace Engine.Cli.Bench;

/// <summary><c>engine bench</c>: timings of single ops, of adapters, of training steps and of decoding.</summary>
internal static class BenchCommand
{
    public static Command Create(GlobalOptions global)
    {
        var command = new Command("bench", """
            Measures speed on random values: one op alone, adapters beside the frozen product,
            training steps, or generation.

            Example:
              engine bench op --op rmsnorm
            """);
        command.Add(BenchOpCommand.Create(global));
        command.Add(BenchLoraCommand.Create(global));
        command.Add(BenchTrainCommand.Create(global));
        command.Add(BenchDecodeCommand.Create(global));
        return command;
    }
}
