namespace Engine.Lora.Data;

/// <summary>A piece of a row's text.</summary>
/// <param name="Text">The text; pieces are tokenised one by one and joined.</param>
/// <param name="IsCompletion">True when the model is to learn to write it; false when it is given.</param>
public readonly record struct TextSegment(string Text, bool IsCompletion);

/// <summary>
/// One row of training or evaluation data: text in segments, or token ids with labels. Exactly one of the two is there.
/// </summary>
public sealed record DataRow
{
    /// <summary>The file and line the row came from, as <c>file:line</c>, for messages.</summary>
    public required string Source { get; init; }

    /// <summary>The text; empty when the row holds ids.</summary>
    public IReadOnlyList<TextSegment> Segments { get; init; } = [];

    /// <summary>The token ids, or null when the row holds text.</summary>
    public IReadOnlyList<int>? InputIds { get; init; }

    /// <summary>
    /// One label per id: the id itself or −100 for "not learned". Labels are not shifted: label i is the target FOR
    /// token i, predicted from the tokens before it; the loss does the shift, as in transformers.
    /// </summary>
    public IReadOnlyList<int>? Labels { get; init; }

    /// <summary>The text to be written, all completion segments joined; empty for a row of ids.</summary>
    public string Completion => string.Concat(Segments.Where(segment => segment.IsCompletion).Select(segment => segment.Text));

    /// <summary>The segments before the first completion: what a generation starts from. Empty for a row of ids.</summary>
    public IEnumerable<TextSegment> PromptSegments => Segments.TakeWhile(segment => !segment.IsCompletion);
}
