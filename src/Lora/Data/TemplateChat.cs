using Engine.Transformer.Tokenization;

namespace Engine.Lora.Data;

/// <summary>
/// Conversations as the model's own chat template writes them. The template is looked for when the first conversation
/// comes, so that a model without one serves all other data.
/// </summary>
public sealed class TemplateChat(Tokenizer tokenizer) : IChatFormat
{
    private Engine.Transformer.Tokenization.ChatFormat? _format;

    /// <inheritdoc/>
    public IReadOnlyList<TextSegment> Render(IReadOnlyList<(string Role, string Content)> turns)
    {
        ArgumentNullException.ThrowIfNull(turns);
        return Segments(turns, addGenerationPrompt: false);
    }

    /// <summary>One question, up to where the assistant's answer begins.</summary>
    /// <exception cref="Engine.Tensors.EngineDataException">The model has no chat template that is known.</exception>
    public IReadOnlyList<TextSegment> Question(string content) => Segments([("user", content)], addGenerationPrompt: true);

    private List<TextSegment> Segments(IReadOnlyList<(string Role, string Content)> turns, bool addGenerationPrompt)
    {
        _format ??= Engine.Transformer.Tokenization.ChatFormat.Detect(tokenizer);
        IReadOnlyList<ChatSegment> segments = _format.Format([.. turns.Select(t => new ChatMessage(t.Role, t.Content))], addGenerationPrompt);
        List<TextSegment> result = [.. segments.Select(s => new TextSegment(s.Text, s.IsCompletion))];

        // The templates of Llama and Mistral write the beginning token out; ExampleBuilder puts the same one in front.
        if (result is [{ IsCompletion: false } first, ..] && OwnBeginning() is { } begin && first.Text.StartsWith(begin, StringComparison.Ordinal))
        {
            result[0] = first with { Text = first.Text[begin.Length..] };
        }

        return result;
    }

    private string? OwnBeginning() =>
        tokenizer.SpecialTokens.BeginningOfSequence is { } bos && tokenizer.Encode("") is [var first, ..] && first == bos
            ? tokenizer.IdToToken(bos)
            : null;
}
