namespace Engine.Transformer.Tokenization;

/// <summary>
/// The "post_processor" of a tokenizer.json as far as one sequence's ids are concerned: tokens before and after it.
/// </summary>
internal sealed record PostProcessor(int[] Before, int[] After)
{
    public static PostProcessor None { get; } = new([], []);

    /// <summary>Several processors: each wraps what the one before it made.</summary>
    public static PostProcessor Chain(IEnumerable<PostProcessor> parts) => parts.Aggregate(
        None, (inner, outer) => new PostProcessor([.. outer.Before, .. inner.Before], [.. inner.After, .. outer.After]));
}
