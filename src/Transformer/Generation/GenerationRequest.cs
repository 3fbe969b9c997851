namespace Engine.Transformer;

/// <summary>One prompt of a batch.</summary>
/// <param name="Prompt">Token ids, at least one, fewer than the model's longest sequence.</param>
public sealed record GenerationRequest(IReadOnlyList<int> Prompt)
{
    /// <summary>
    /// The adapter of this row as <see cref="BatchContext.RowAdapters"/> has it: an index into the mixed set, −1 for the
    /// base alone; null for the active adapters. Either all requests of a batch set it or none does.
    /// </summary>
    public int? Adapter { get; init; }

    /// <summary>This row's own <see cref="GenerationOptions.MaxNewTokens"/>; null for the options'.</summary>
    public int? MaxNewTokens { get; init; }

    /// <summary>Which of the seed's random streams the row draws from: to sample a prompt several times, number them.</summary>
    public ulong Stream { get; init; }
}
