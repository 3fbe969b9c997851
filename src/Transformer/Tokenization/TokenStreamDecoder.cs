using System.Runtime.InteropServices;

namespace Engine.Transformer.Tokenization;

/// <summary>
/// Text from ids that arrive one by one. A character whose bytes span several tokens is held back until it is complete;
/// the parts concatenate to what <see cref="Tokenizer.Decode(ReadOnlySpan{int}, bool)"/> gives for all ids, except where
/// a byte-fallback run turns out to be invalid after part of it was shown. One stream, one thread.
/// </summary>
/// <remarks>
/// Decodes a short window of recent ids twice, without and with the new one, and gives the difference: decoders may look
/// at neighbours (a leading space is dropped only at the start), so single ids cannot be decoded on their own.
/// </remarks>
public sealed class TokenStreamDecoder
{
    // A character spans at most 4 byte tokens; a longer wait means that the bytes are invalid.
    private const int LongestWait = 16;

    private readonly Tokenizer _tokenizer;
    private readonly bool _skipSpecialTokens;
    private readonly List<int> _window = [];
    private string _shown = "";
    private int _shownIds;

    internal TokenStreamDecoder(Tokenizer tokenizer, bool skipSpecialTokens)
    {
        _tokenizer = tokenizer;
        _skipSpecialTokens = skipSpecialTokens;
    }

    /// <summary>Takes the next id and returns the text that has become complete, often none ("").</summary>
    public string Add(int id)
    {
        _window.Add(id);
        string text = DecodeWindow();
        bool complete = text.Length > _shown.Length && !text.EndsWith('\uFFFD');
        return complete || _window.Count - _shownIds > LongestWait ? Show(text) : "";
    }

    /// <summary>Ends the stream: returns what was held back, incomplete bytes as U+FFFD, and starts afresh.</summary>
    public string Flush()
    {
        string rest = NewPart(DecodeWindow());
        _window.Clear();
        _shown = "";
        _shownIds = 0;
        return rest;
    }

    private string Show(string text)
    {
        string part = NewPart(text);
        // Keep the ids shown last as the context of the next ones, and forget those before them.
        _window.RemoveRange(0, _shownIds);
        _shown = DecodeWindow();
        _shownIds = _window.Count;
        return part;
    }

    private string DecodeWindow() => _tokenizer.Decode(CollectionsMarshal.AsSpan(_window), _skipSpecialTokens);

    private string NewPart(string text)
    {
        int common = text.AsSpan().CommonPrefixLength(_shown);
        // Never show the second half of a surrogate pair alone.
        if (common > 0 && common < text.Length && char.IsLowSurrogate(text[common]) && char.IsHighSurrogate(text[common - 1]))
        {
            common--;
        }

        return text[common..];
    }
}
