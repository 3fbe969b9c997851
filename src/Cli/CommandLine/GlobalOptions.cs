using System.CommandLine;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Cli;

/// <summary>The options that every command has.</summary>
internal sealed class GlobalOptions
{
    private readonly Option<string> _device = OptionOf.Text(
        "--device", DeviceOption.ValueName, "Where to compute; auto is the first GPU if there is one, else the CPU.", @default: "auto");

    private readonly Option<int?> _threads = OptionOf.OptionalInteger(
        "--threads", "Threads to compute with (ENGINE_THREADS, or all cores); the result does not depend on it.", 1, 1024);

    private readonly Option<bool> _quiet = OptionOf.Flag("--quiet", "Print the result only, no progress and no notes.");

    public GlobalOptions(CommandConsole console)
    {
        Console = console;
        foreach (Option option in All)
        {
            option.Recursive = true;
        }
    }

    /// <summary>Where commands read and write.</summary>
    public CommandConsole Console { get; }

    public IReadOnlyList<Option> All => [_device, _threads, _quiet];

    /// <summary>Gives a command what to do; the options are read and applied before it.</summary>
    public void Handle(Command command, Func<CommandContext, int> action) => command.SetAction(parsed => action(Context(parsed)));

    /// <summary>What a command line's global options say, applied.</summary>
    /// <exception cref="UsageException">The device's name is none.</exception>
    /// <exception cref="EngineDataException">The device asked for cannot be used.</exception>
    public CommandContext Context(ParseResult parsed)
    {
        if (parsed.GetValue(_threads) is { } threads)
        {
            CpuParallel.ThreadCount = threads;
        }

        bool quiet = parsed.GetValue(_quiet);
        return new CommandContext(parsed, Console, DeviceOption.Parse(parsed.GetValue(_device)!, Note), quiet);

        void Note(string text)
        {
            if (!quiet)
            {
                Console.Error.WriteLine(text);
            }
        }
    }
}

/// <summary>One invocation of a command.</summary>
/// <param name="parsed">The command line.</param>
/// <param name="console">Where to read and write.</param>
/// <param name="device">Where to compute.</param>
/// <param name="quiet">Whether progress and notes are unwanted.</param>
internal sealed class CommandContext(ParseResult parsed, CommandConsole console, Lazy<Device> device, bool quiet)
{
    /// <summary>Where to read and write.</summary>
    public CommandConsole Console => console;

    /// <summary>Where to compute; the first use opens it.</summary>
    public Device Device => device.Value;

    /// <summary>Whether progress and notes are unwanted.</summary>
    public bool Quiet => quiet;

    /// <summary>A remark for the person, beside the result.</summary>
    public void Note(string text)
    {
        if (!quiet)
        {
            console.Error.WriteLine(text);
        }
    }

    public T? Get<T>(Option<T> option) => parsed.GetValue(option);

    public T Get<T>(Argument<T> argument) => parsed.GetValue(argument)!;

    /// <summary>Whether an option stands on the command line.</summary>
    public bool IsGiven(Option option) => parsed.GetResult(option) is { Implicit: false };
}
