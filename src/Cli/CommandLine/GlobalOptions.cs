using System.CommandLine;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Cli;

/// <summary>The options that every command has.</summary>
internal sealed class GlobalOptions
{
    private readonly Option<string> _device = OptionOf.Text("--device", "auto|cpu|cuda[:n]", "Where to compute.", @default: "auto");
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
    public void Handle(Command command, Func<CommandContext, int> action) => command.SetAction(parsed =>
    {
        if (parsed.GetValue(_threads) is { } threads)
        {
            CpuParallel.ThreadCount = threads;
        }

        return action(new CommandContext(parsed, Console, DeviceOf(parsed.GetValue(_device)!), parsed.GetValue(_quiet)));
    });

    private static CpuDevice DeviceOf(string name)
    {
        bool cuda = name == "cuda" ||
            (name.StartsWith("cuda:", StringComparison.Ordinal) && name.Length > 5 && name.AsSpan(5).ContainsAnyExceptInRange('0', '9') is false);
        return name is "auto" or "cpu"
            ? Device.Cpu
            : throw new UsageException(cuda
                ? $"--device is {name}; this build has no CUDA device yet, it computes on the CPU: use --device cpu"
                : $"--device is \"{name}\"; expected auto, cpu, cuda or cuda:n");
    }
}

/// <summary>One invocation of a command.</summary>
/// <param name="Parsed">The command line.</param>
/// <param name="Console">Where to read and write.</param>
/// <param name="Device">Where to compute.</param>
/// <param name="Quiet">Whether progress and notes are unwanted.</param>
internal sealed record CommandContext(ParseResult Parsed, CommandConsole Console, Device Device, bool Quiet)
{
    /// <summary>A remark for the person, beside the result.</summary>
    public void Note(string text)
    {
        if (!Quiet)
        {
            Console.Error.WriteLine(text);
        }
    }

    public T? Get<T>(Option<T> option) => Parsed.GetValue(option);

    public T Get<T>(Argument<T> argument) => Parsed.GetValue(argument)!;

    /// <summary>Whether an option stands on the command line.</summary>
    public bool IsGiven(Option option) => Parsed.GetResult(option) is { Implicit: false };
}
