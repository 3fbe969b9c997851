using System.Text.Json;

namespace Engine.Lora;

/// <summary>A generated completion beside its reference.</summary>
/// <param name="Row">Index of the row.</param>
/// <param name="Generated">What the model wrote: text, or ids separated by spaces for a row of ids.</param>
/// <param name="Reference">What it should have written.</param>
/// <param name="Matches">Whether the two are equal, white space at the end aside.</param>
public sealed record CompletionComparison(int Row, string Generated, string Reference, bool Matches);

/// <summary>What an evaluation found.</summary>
public sealed record EvaluationResult
{
    /// <summary>Rows evaluated.</summary>
    public required int Examples { get; init; }

    /// <summary>Labelled tokens: what the loss is the mean over.</summary>
    public required long Tokens { get; init; }

    /// <summary>Mean of −log p over the labelled tokens, in nats.</summary>
    public required double Loss { get; init; }

    /// <summary>e to the <see cref="Loss"/>.</summary>
    public double Perplexity => Math.Exp(Loss);

    /// <summary>One for each row that has a completion, in the rows' order; null when none was asked for.</summary>
    public IReadOnlyList<CompletionComparison>? Completions { get; init; }

    /// <summary>Share of completions that match their reference, 0 to 1; null without any completion.</summary>
    public double? ExactMatch => Completions is { Count: > 0 } ? (double)Completions.Count(c => c.Matches) / Completions.Count : null;

    /// <summary>Wall time in seconds.</summary>
    public double Seconds { get; init; }

    /// <summary>
    /// Writes an object: <c>examples</c>, <c>tokens</c>, <c>loss</c>, <c>perplexity</c> and <c>seconds</c>, and where completions
    /// were compared <c>exact_match</c>, <c>exact_matches</c> and <c>completions</c> (their numbers). A loss or perplexity that is not finite is null.
    /// </summary>
    public void WriteJson(Utf8JsonWriter writer)
    {
        ArgumentNullException.ThrowIfNull(writer);
        writer.WriteStartObject();
        writer.WriteNumber("examples", Examples);
        writer.WriteNumber("tokens", Tokens);
        WriteNumber(writer, "loss", Loss);
        WriteNumber(writer, "perplexity", Perplexity);
        if (ExactMatch is { } share)
        {
            writer.WriteNumber("exact_match", share);
            writer.WriteNumber("exact_matches", Completions!.Count(c => c.Matches));
            writer.WriteNumber("completions", Completions!.Count);
        }

        writer.WriteNumber("seconds", Math.Round(Seconds, 3));
        writer.WriteEndObject();
    }

    private static void WriteNumber(Utf8JsonWriter writer, string name, double value)
    {
        if (double.IsFinite(value))
        {
            writer.WriteNumber(name, value);
        }
        else
        {
            writer.WriteNull(name);
        }
    }
}
