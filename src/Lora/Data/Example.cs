namespace Engine.Lora.Data;

/// <summary>
/// A tokenised row. Labels are not shifted: <c>Labels[i]</c> is the target for token i itself, −100 where nothing is
/// learned; the loss pairs the logits of position i − 1 with <c>Labels[i]</c>, as transformers does.
/// <c>Labels[0]</c> is therefore never a target and always −100 here.
/// </summary>
/// <param name="Tokens">Token ids.</param>
/// <param name="Labels">As many labels.</param>
public sealed record Example(int[] Tokens, int[] Labels)
{
    /// <summary>The label of a token that is not learned; PyTorch's default <c>ignore_index</c>.</summary>
    public const int IgnoredLabel = -100;

    /// <summary>
    /// For each token, the index at which its segment begins; null when the example is one segment. A token attends
    /// to no token before its segment, and its position is its distance from there.
    /// </summary>
    public int[]? SegmentStarts { get; init; }

    /// <summary>Number of tokens.</summary>
    public int Length => Tokens.Length;

    /// <summary>Number of targets: labels that are not −100.</summary>
    public int LabelledTokens => Labels.Length - Labels.AsSpan().Count(IgnoredLabel);
}
