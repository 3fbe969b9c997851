using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>
/// A model's own generation settings, from the optional <c>generation_config.json</c>. A property is null when the
/// file does not set it, so that the caller's default applies.
/// </summary>
public sealed record GenerationDefaults
{
    /// <summary>Sample (true) or take the most likely token (false).</summary>
    public bool? DoSample { get; init; }

    /// <summary>Divides the logits; at least 0, where 0 means greedy.</summary>
    public double? Temperature { get; init; }

    /// <summary>Keep this many most likely tokens; 0 keeps all.</summary>
    public int? TopK { get; init; }

    /// <summary>Keep the smallest set of tokens with this probability mass; in (0, 1].</summary>
    public double? TopP { get; init; }

    /// <summary>Penalty on tokens already present (CTRL, arXiv:1909.05858); over 0, 1 is none.</summary>
    public double? RepetitionPenalty { get; init; }

    /// <summary>Most tokens to generate.</summary>
    public int? MaxNewTokens { get; init; }

    /// <summary>Ids that end generation; empty when not set.</summary>
    public IReadOnlyList<int> EosTokenIds { get; init; } = [];

    /// <summary>Reads <c>generation_config.json</c> from a model directory; all null when there is none.</summary>
    /// <exception cref="EngineDataException">The file is there, and a field in it is wrong.</exception>
    public static GenerationDefaults Load(string directory)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        string path = Path.Combine(directory, "generation_config.json");
        return File.Exists(path) ? Parse(JsonFields.Load(path)) : new GenerationDefaults();
    }

    /// <summary>Reads the settings from a parsed document.</summary>
    /// <exception cref="EngineDataException">A field is wrong.</exception>
    public static GenerationDefaults Parse(JsonFields fields)
    {
        ArgumentNullException.ThrowIfNull(fields);
        double? temperature = fields.Number("temperature");
        fields.Refuse(temperature < 0, "temperature", "a number of at least 0");
        double? topP = fields.Number("top_p");
        fields.Refuse(topP is <= 0 or > 1, "top_p", "a number in (0, 1]");
        return new GenerationDefaults
        {
            DoSample = fields.Has("do_sample") ? fields.Bool("do_sample", false) : null,
            Temperature = temperature,
            TopK = fields.Int("top_k", 0),
            TopP = topP,
            RepetitionPenalty = fields.Positive("repetition_penalty"),
            MaxNewTokens = fields.Int("max_new_tokens", 1),
            EosTokenIds = fields.Ints("eos_token_id"),
        };
    }
}
