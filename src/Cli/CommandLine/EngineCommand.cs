using System.CommandLine;
using System.CommandLine.Invocation;
using Engine.Cli.Bench;
using Engine.Cli.Profiling;
using Engine.Tensors;

namespace Engine.Cli;

/// <summary>The <c>engine</c> command: parses the command line, runs a command, turns failures into exit codes.</summary>
internal static class EngineCommand
{
    // EPIPE on Linux and macOS; ERROR_NO_DATA, as an HRESULT, on Windows.
    private static readonly int[] s_brokenPipe = [32, unchecked((int)0x800700E8)];

    /// <summary>Runs the command line and returns the exit code (<see cref="ExitCode"/>).</summary>
    public static int Run(IReadOnlyList<string> args, CommandConsole console)
    {
        try
        {
            int code = Invoke(args, console);
            console.Output.Flush();
            return code;
        }
        catch (Exception error)
        {
            return Report(error, console);
        }
    }

    /// <summary>The command tree.</summary>
    public static RootCommand Create(CommandConsole console)
    {
        var global = new GlobalOptions(console);
        var root = new RootCommand(
            "Fine-tunes transformers with low-rank adaptation (LoRA), merges the result and runs it. " +
            "Models and adapters are Hugging Face and PEFT directories.")
        {
            HelpName = "engine",
        };
        foreach (Option option in global.All)
        {
            root.Add(option);
        }

        foreach (Command command in (Command[])
            [
                DemoCommand.Create(global), TrainCommand.Create(global), EvalCommand.Create(global), GenerateCommand.Create(global),
                LogitsCommand.Create(global), MergeCommand.Create(global), AdaptersCommand.Create(global),
                InspectCommand.Create(global), TokenizeCommand.Create(global), InfoCommand.Create(global), KernelsCommand.Create(global),
                BenchCommand.Create(global), ProfileCommand.Create(global),
            ])
        {
            root.Add(command);
        }

        VersionOption version = root.Options.OfType<VersionOption>().Single();
        version.Action = new VersionAction(console);
        return root;
    }

    private static int Invoke(IReadOnlyList<string> args, CommandConsole console)
    {
        RootCommand root = Create(console);

        // A prompt may begin with "@" and a path hold anything: no response files, no bundled letters.
        ParseResult parsed = root.Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null, EnablePosixBundling = false });
        if (parsed.Errors.Count > 0 && parsed.Action is not { ClearsParseErrors: true })
        {
            string command = CommandPath(parsed);
            string errors = string.Join("; ", parsed.Errors.Select(e => e.Message.TrimEnd('.')).Distinct());
            throw new UsageException($"{errors}. See '{command} --help'.");
        }

        return parsed.Invoke(new InvocationConfiguration
        {
            Output = console.Output,
            Error = console.Error,
            EnableDefaultExceptionHandler = false,
            ProcessTerminationTimeout = null,
        });
    }

    private static string CommandPath(ParseResult parsed)
    {
        var names = new Stack<string>();
        for (Command? command = parsed.CommandResult.Command; command is not null; command = command.Parents.OfType<Command>().FirstOrDefault())
        {
            names.Push(command is RootCommand ? "engine" : command.Name);
        }

        return string.Join(' ', names);
    }

    private static int Report(Exception error, CommandConsole console)
    {
        (int code, string? message) = error switch
        {
            UsageException => (ExitCode.Usage, error.Message),
            EngineDataException => (ExitCode.Data, error.Message),
            OperationCanceledException => (ExitCode.Interrupted, "interrupted"),
            IOException when s_brokenPipe.Contains(error.HResult) => (ExitCode.BrokenPipe, null),
            IOException or UnauthorizedAccessException => (ExitCode.Data, error.Message),
            OutOfMemoryException => (ExitCode.Data, "out of memory; a smaller batch size or a shorter maximum length needs less"),
            _ => (ExitCode.Internal, $"internal error: {error.Message} ({error.GetType().Name}); set ENGINE_DEBUG=1 for the stack trace and please report it"),
        };
        if (message is null)
        {
            return code;
        }

        TryFlush(console.Output);
        console.Error.WriteLine($"engine: {message}");
        if (Environment.GetEnvironmentVariable("ENGINE_DEBUG") is "1" or "true")
        {
            console.Error.WriteLine(error);
        }

        return code;
    }

    private static void TryFlush(TextWriter writer)
    {
        try
        {
            writer.Flush();
        }
        catch (IOException)
        {
            // The error to report came before this one.
        }
    }

    private sealed class VersionAction(CommandConsole console) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            console.Output.WriteLine($"engine {EngineVersion.Full}");
            return ExitCode.Success;
        }
    }
}
