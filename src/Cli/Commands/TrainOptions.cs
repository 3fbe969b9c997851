using System.CommandLine;
using Engine.Lora;
using Engine.Tensors;

namespace Engine.Cli;

/// <summary>The options of <c>engine train</c>, made from <see cref="TrainingOptions.All"/>.</summary>
internal sealed class TrainOptions
{
    private static readonly TrainingOptions s_defaults = new();

    private readonly Option<string> _config = OptionOf.Text(
        "--config", "FILE.json", "File with options under the same names (with _ for -); options given here override it.");

    private readonly List<(TrainingOption Option, Option<string>? Value, Option<bool>? Flag, bool Negated)> _options = [];

    public TrainOptions()
    {
        foreach (TrainingOption option in TrainingOptions.All)
        {
            if (option.Kind != TrainingOptionKind.Flag)
            {
                _options.Add((option, OptionOf.Text(option.CommandLineName, ValueName(option), Help(option)), null, false));
                continue;
            }

            // A flag that is on by default is switched off by its negation.
            bool negated = option.ToJson(s_defaults) == "true";
            string name = negated ? $"--no-{option.CommandLineName[2..]}" : option.CommandLineName;
            string help = negated ? $"Do not {option.Help}." : Help(option);
            _options.Add((option, null, OptionOf.Flag(name, help), negated));
        }
    }

    public void AddTo(Command command)
    {
        foreach ((_, Option<string>? value, Option<bool>? flag, _) in _options)
        {
            command.Add((Option?)value ?? flag!);
        }

        command.Add(_config);
    }

    /// <summary>The configuration file's options, those on the command line over them.</summary>
    /// <exception cref="UsageException">An option is missing, malformed, out of range or excluded by another.</exception>
    /// <exception cref="EngineDataException">The configuration file is wrong.</exception>
    public TrainingOptions Read(CommandContext context)
    {
        TrainingOptions options = context.Get(_config) is { } path ? TrainingOptions.Load(path) : s_defaults;
        try
        {
            return Override(options, context);
        }
        catch (EngineDataException error)
        {
            throw new UsageException($"{error.Message.TrimEnd('.')}. See 'engine train --help'.", error);
        }
    }

    private TrainingOptions Override(TrainingOptions options, CommandContext context)
    {
        TrainingOptions given = s_defaults;
        foreach ((TrainingOption option, Option<string>? value, Option<bool>? flag, bool negated) in _options)
        {
            if (!context.IsGiven((Option?)value ?? flag!))
            {
                continue;
            }

            string text = value is not null ? context.Get(value)! : context.Get(flag!) != negated ? "true" : "false";
            options = option.Apply(options, text);
            given = option.Apply(given, text);
        }

        options = options.WithLength(given.Epochs, given.Steps);
        options.Validate();
        return options;
    }

    private static string ValueName(TrainingOption option) => option.Kind switch
    {
        TrainingOptionKind.Integer => "N",
        TrainingOptionKind.Number => "X",
        TrainingOptionKind.Choice => string.Join('|', option.Choices),
        _ => option.Name switch
        {
            "model" or "out" or "adapter" => "DIR",
            "targets" => "NAMES",
            "max_memory" => "SIZE",
            "peft_config" => "FILE.json",
            _ => "FILE.jsonl",
        },
    };

    private static string Help(TrainingOption option)
    {
        string text = char.ToUpperInvariant(option.Help[0]) + option.Help[1..];
        string value = option.ToJson(s_defaults).Trim('"');
        return value is "null" or "false" ? $"{text}." : $"{text} ({value}).";
    }
}
