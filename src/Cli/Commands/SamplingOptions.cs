using System.CommandLine;
using Engine.Transformer;
using Engine.Transformer.Tokenization;

namespace Engine.Cli;

/// <summary>How tokens are chosen and when generation stops.</summary>
internal sealed class SamplingOptions
{
    private readonly Option<int?> _maxNewTokens = OptionOf.OptionalInteger("--max-new-tokens", "Most tokens to generate (256).", 1);
    private readonly Option<bool> _greedy = OptionOf.Flag("--greedy", "Take the most likely token at each step, whatever the model's own settings.");
    private readonly Option<bool> _sample = OptionOf.Flag("--sample", "Draw tokens; implied by --temperature, --top-k and --top-p.");
    private readonly Option<double?> _temperature = OptionOf.OptionalNumber("--temperature", "Divides the logits before sampling; 0 is greedy (1).");
    private readonly Option<int?> _topK = OptionOf.OptionalInteger("--top-k", "Sample from the K most likely tokens; 0 for all (0).", 0);
    private readonly Option<double?> _topP = OptionOf.OptionalNumber("--top-p", "Sample from the most likely tokens that have this probability together, over 0 up to 1 (1).");
    private readonly Option<double?> _penalty = OptionOf.OptionalNumber("--repetition-penalty", "Divides the logits of tokens that occurred; 1 is none (1).");
    private readonly Option<long> _seed = OptionOf.Seed("Seed of the draws.");
    private readonly Option<string[]> _stop = OptionOf.Texts("--stop", "TEXT", "End where this text occurs, before it; can be given several times.");
    private readonly Option<bool> _ignoreEos = OptionOf.Flag("--ignore-eos", "Do not end at the model's end tokens.");

    public void AddTo(Command command)
    {
        foreach (Option option in (Option[])
            [_maxNewTokens, _greedy, _sample, _temperature, _topK, _topP, _penalty, _seed, _stop, _ignoreEos])
        {
            command.Add(option);
        }
    }

    /// <summary>The options for a model: what is given, else its generation_config.json, else the defaults.</summary>
    /// <exception cref="UsageException">An option is out of range or excluded by another.</exception>
    public GenerationOptions Read(CommandContext context, ModelConfig config, string directory, Tokenizer? tokenizer)
    {
        if (context.Get(_greedy) && (context.Get(_sample) || context.Get(_temperature) > 0))
        {
            throw new UsageException("--greedy and sampling options exclude each other");
        }

        var chosen = new GenerationDefaults
        {
            MaxNewTokens = context.Get(_maxNewTokens),
            DoSample = context.Get(_greedy) ? false : context.Get(_sample) ? true : null,
            Temperature = context.Get(_temperature),
            TopK = context.Get(_topK),
            TopP = context.Get(_topP),
            RepetitionPenalty = context.Get(_penalty),
        };
        GenerationOptions options = GenerationOptions.For(config, GenerationDefaults.Load(directory), chosen) with
        {
            Seed = (ulong)context.Get(_seed),
            StopStrings = context.Get(_stop) ?? [],
        };
        if (context.Get(_ignoreEos))
        {
            options = options with { StopTokenIds = [] };
        }
        else if (tokenizer?.SpecialTokens.EndOfSequence is { } end && !options.StopTokenIds.Contains(end))
        {
            options = options with { StopTokenIds = [.. options.StopTokenIds, end] };
        }

        if (options.StopStrings.Count > 0 && tokenizer is null)
        {
            throw new UsageException("--stop is compared with text and goes with --prompt, not with --tokens");
        }

        try
        {
            options.Validate();
            return options;
        }
        catch (ArgumentException error)
        {
            throw new UsageException(error.Message, error);
        }
    }
}
