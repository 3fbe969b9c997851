namespace Engine.Transformer;

/// <summary>How tokens are chosen and when generation stops.</summary>
/// <remarks>
/// Each step's logits go through, in this order: repetition penalty, temperature, top-k, top-p; then one token is drawn.
/// The n-th draw of a row depends on the seed, on the request's <see cref="GenerationRequest.Stream"/> and on n alone, so
/// a row's tokens do not depend on what else is in its batch.
/// </remarks>
public sealed record GenerationOptions
{
    /// <summary>Most tokens to generate for a row; at least 1. Rows also end at the model's longest sequence.</summary>
    public int MaxNewTokens { get; init; } = 256;

    /// <summary>Draw from the distribution (true), or take the most likely token, the lowest id of equals (false).</summary>
    public bool DoSample { get; init; }

    /// <summary>Divides the logits before sampling; at least 0, where 0 means greedy.</summary>
    public double Temperature { get; init; } = 1;

    /// <summary>Keep this many most likely tokens (and those tied with the last); 0 keeps all.</summary>
    public int TopK { get; init; }

    /// <summary>
    /// Keep the smallest set of most likely tokens whose probabilities sum to at least this; in (0, 1], 1 keeps all.
    /// Source: Holtzman et al., The Curious Case of Neural Text Degeneration.
    /// </summary>
    public double TopP { get; init; } = 1;

    /// <summary>
    /// Divides positive and multiplies negative logits of ids that occur in the row's prompt or in what it generated; over
    /// 0, 1 is none. Source: Keskar et al., CTRL, §4.1.
    /// </summary>
    public double RepetitionPenalty { get; init; } = 1;

    /// <summary>Ids that end a row. The id itself is in the result's ids and not in its text.</summary>
    public IReadOnlyList<int> StopTokenIds { get; init; } = [];

    /// <summary>
    /// Strings that end a row once they occur in the text generated; the text is cut before them. They need a tokenizer.
    /// </summary>
    public IReadOnlyList<string> StopStrings { get; init; } = [];

    /// <summary>Seed of all draws.</summary>
    public ulong Seed { get; init; }

    /// <summary>True when the most likely token is taken at each step.</summary>
    public bool IsGreedy => !DoSample || Temperature == 0;

    /// <summary>
    /// The options for a model: what the caller chose, else what its <c>generation_config.json</c> says, else the defaults
    /// of this type. End-of-sequence ids come from the first of the three that has any: the caller, that file,
    /// <c>config.json</c>. A caller who chooses a temperature, top-k or top-p and says nothing of sampling wants sampling.
    /// </summary>
    /// <param name="config">The model's configuration.</param>
    /// <param name="file">From <see cref="GenerationDefaults.Load"/>.</param>
    /// <param name="chosen">What the caller sets; null properties are left to the other two.</param>
    public static GenerationOptions For(ModelConfig config, GenerationDefaults file, GenerationDefaults? chosen = null)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(file);
        chosen ??= new GenerationDefaults();
        var fallback = new GenerationOptions();
        bool? implied = chosen.Temperature is not null || chosen.TopK is not null || chosen.TopP is not null ? true : null;
        return new GenerationOptions
        {
            MaxNewTokens = chosen.MaxNewTokens ?? file.MaxNewTokens ?? fallback.MaxNewTokens,
            DoSample = chosen.DoSample ?? implied ?? file.DoSample ?? fallback.DoSample,
            Temperature = chosen.Temperature ?? file.Temperature ?? fallback.Temperature,
            TopK = chosen.TopK ?? file.TopK ?? fallback.TopK,
            TopP = chosen.TopP ?? file.TopP ?? fallback.TopP,
            RepetitionPenalty = chosen.RepetitionPenalty ?? file.RepetitionPenalty ?? fallback.RepetitionPenalty,
            StopTokenIds = chosen.EosTokenIds.Count > 0 ? chosen.EosTokenIds
                : file.EosTokenIds.Count > 0 ? file.EosTokenIds
                : config.EosTokenIds,
        };
    }

    /// <summary>Checks every property.</summary>
    /// <exception cref="ArgumentException">A property is out of its range; the message says which, its value and the range.</exception>
    public void Validate()
    {
        Require(MaxNewTokens >= 1, "max_new_tokens", MaxNewTokens, "at least 1");
        Require(Temperature >= 0 && double.IsFinite(Temperature), "temperature", Temperature, "a finite number of at least 0 (0 is greedy)");
        Require(TopK >= 0, "top_k", TopK, "at least 0 (0 keeps all tokens)");
        Require(TopP is > 0 and <= 1, "top_p", TopP, "in (0, 1]");
        Require(RepetitionPenalty > 0 && double.IsFinite(RepetitionPenalty), "repetition_penalty", RepetitionPenalty, "a finite number over 0 (1 is none)");
        foreach (int id in StopTokenIds)
        {
            Require(id >= 0, "stop token id", id, "at least 0");
        }

        foreach (string stop in StopStrings)
        {
            Require(!string.IsNullOrEmpty(stop), "stop string", "\"\"", "at least one character long");
        }
    }

    private static void Require(bool right, string name, object value, string range)
    {
        if (!right)
        {
            throw new ArgumentException($"{name} is {value}; it must be {range}");
        }
    }
}
