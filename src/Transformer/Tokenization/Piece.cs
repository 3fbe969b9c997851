namespace Engine.Transformer.Tokenization;

/// <summary>
/// A stretch of text on its way to the model, or an added token already found (<see cref="TokenId"/> ≥ 0).
/// </summary>
/// <param name="Source">The string it is a part of.</param>
/// <param name="Start">Where it begins in <paramref name="Source"/>.</param>
/// <param name="Length">Its length in UTF-16 units.</param>
/// <param name="FromTextStart">
/// How many of its first units stem from the first character of the whole input. Metaspace's scheme "first" asks whether
/// a piece begins there, however much normalization has changed the text since.
/// </param>
/// <param name="TokenId">The added token's id, or −1.</param>
internal readonly record struct Piece(string Source, int Start, int Length, int FromTextStart, int TokenId = -1)
{
    public ReadOnlySpan<char> Span => Source.AsSpan(Start, Length);

    public override string ToString() => Source.Substring(Start, Length);

    public Piece Slice(int start, int length) =>
        new(Source, Start + start, length, Math.Max(0, Math.Min(length, FromTextStart - start)));
}

/// <summary>A text under normalization, and how many of its first units stem from the input's first character.</summary>
internal readonly record struct NormalizedText(string Text, int FromTextStart);
