namespace Engine.Lora;

/// <summary>What to evaluate, and in what portions. None of the sizes changes a result beyond rounding.</summary>
public sealed record EvaluationOptions
{
    /// <summary>Whether completions are generated and compared.</summary>
    public bool ExactMatch { get; init; } = true;

    /// <summary>Ids that end a completion; null for those of the model's configuration and its tokenizer.</summary>
    public IReadOnlyList<int>? StopTokenIds { get; init; }

    /// <summary>
    /// Tokens that a generated completion may have beyond its reference before it is given up: the same text may be cut into
    /// more tokens. Not used where the reference has no end token.
    /// </summary>
    public int ExtraTokens { get; init; } = 8;

    /// <summary>Most tokens of a batch for the loss, padding included; a longer row is a batch of its own.</summary>
    public int BatchTokens { get; init; } = 4096;

    /// <summary>Most rows of a batch that generates.</summary>
    public int GenerationRows { get; init; } = 128;
}

/// <summary>What an evaluation is at.</summary>
public enum EvaluationPhase
{
    /// <summary>The loss.</summary>
    Loss,

    /// <summary>Generating completions.</summary>
    Generation,
}

/// <summary>How far an evaluation is.</summary>
/// <param name="Phase">What it is at.</param>
/// <param name="Done">Rows of this phase that are finished.</param>
/// <param name="Total">Rows of this phase.</param>
public readonly record struct EvaluationProgress(EvaluationPhase Phase, int Done, int Total);
