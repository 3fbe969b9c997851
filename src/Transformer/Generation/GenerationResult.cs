namespace Engine.Transformer;

/// <summary>Why a row ended.</summary>
public enum FinishReason
{
    /// <summary>It reached <see cref="GenerationOptions.MaxNewTokens"/> or the model's longest sequence.</summary>
    Length,

    /// <summary>One of <see cref="GenerationOptions.StopTokenIds"/> was generated.</summary>
    StopToken,

    /// <summary>One of <see cref="GenerationOptions.StopStrings"/> occurred in the text.</summary>
    StopString,
}

/// <summary>What was generated for one prompt.</summary>
/// <param name="Ids">The generated ids, without the prompt; a stop token is the last of them.</param>
/// <param name="Text">Their text without special tokens, stop token and stop string; null without a tokenizer.</param>
/// <param name="Finish">Why the row ended.</param>
public sealed record GenerationResult(IReadOnlyList<int> Ids, string? Text, FinishReason Finish);

/// <summary>One token of one row, as it is generated.</summary>
/// <param name="Row">Index of the request in the batch.</param>
/// <param name="Id">The token.</param>
/// <param name="Text">
/// The text that has become certain, often none (""): characters whose bytes are incomplete and text that may begin a
/// stop string are held back. A row's parts concatenate to its result's text. Null without a tokenizer.
/// </param>
/// <param name="Finish">Set on the row's last token.</param>
public readonly record struct GeneratedToken(int Row, int Id, string? Text, FinishReason? Finish);
