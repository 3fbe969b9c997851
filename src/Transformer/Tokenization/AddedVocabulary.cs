using System.Buffers;
using System.Text;

namespace Engine.Transformer.Tokenization;

/// <summary>An entry of "added_tokens"; the properties are the file's fields.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Content">Its text.</param>
/// <param name="SingleWord">Found only where no word character touches it.</param>
/// <param name="LeftStrip">Takes the white space before it along.</param>
/// <param name="RightStrip">Takes the white space after it along.</param>
/// <param name="Normalized">Searched in the normalized text, in its own normalized form.</param>
/// <param name="Special">Left out when decoding without special tokens.</param>
internal sealed record AddedToken(
    int Id, string Content, bool SingleWord, bool LeftStrip, bool RightStrip, bool Normalized, bool Special);

/// <summary>Finds added tokens in text before anything else looks at it; leftmost, and the longest of those.</summary>
internal sealed class AddedVocabulary
{
    private readonly Dictionary<string, AddedToken> _byContent = [];
    private readonly Dictionary<int, AddedToken> _byId = [];
    private readonly Dictionary<int, string> _texts = [];
    private readonly HashSet<string> _special = [];
    private readonly Matcher _raw;
    private readonly Matcher _normalized;

    public AddedVocabulary(IReadOnlyList<AddedToken> tokens, Normalizer? normalizer)
    {
        var raw = new List<(string, AddedToken)>();
        var normalized = new List<(string, AddedToken)>();
        foreach (AddedToken token in tokens)
        {
            _byContent[token.Content] = token;
            _byId[token.Id] = token;
            string text = token.Normalized && normalizer is not null ? normalizer.Apply(token.Content) : token.Content;
            _texts[token.Id] = text;
            (token.Normalized ? normalized : raw).Add((text, token));
            if (token.Special)
            {
                _special.Add(token.Content);
            }
        }

        _raw = new Matcher(raw);
        _normalized = new Matcher(normalized);
    }

    public IReadOnlyCollection<AddedToken> Tokens => _byId.Values;

    public AddedToken? Find(string content) => _byContent.GetValueOrDefault(content);

    /// <summary>The text that decoding gives for an added id: normalized tokens come back in their normalized form.</summary>
    public string? TextOf(int id) => _texts.GetValueOrDefault(id);

    public string? ContentOf(int id) => _byId.GetValueOrDefault(id)?.Content;

    public bool IsSpecial(string text) => _special.Contains(text);

    public bool IsSpecial(int id) => _byId.TryGetValue(id, out AddedToken? token) && token.Special;

    /// <summary>Cuts out the unnormalized tokens, normalizes what remains, and cuts out the normalized tokens.</summary>
    public List<Piece> Extract(string text, Normalizer? normalizer)
    {
        int head = text.Length == 0 ? 0 : char.IsHighSurrogate(text[0]) && text.Length > 1 ? 2 : 1;
        var pieces = new List<Piece>();
        _raw.Cut(new Piece(text, 0, text.Length, head), pieces);
        var output = new List<Piece>(pieces.Count);
        foreach (Piece piece in pieces)
        {
            if (piece.TokenId >= 0)
            {
                output.Add(piece);
                continue;
            }

            Piece current = piece;
            if (normalizer is not null)
            {
                NormalizedText result = normalizer.Apply(new NormalizedText(piece.ToString(), piece.FromTextStart));
                current = new Piece(result.Text, 0, result.Text.Length, result.FromTextStart);
            }

            _normalized.Cut(current, output);
        }

        return output;
    }

    private sealed class Matcher
    {
        private readonly Dictionary<char, List<(string Text, AddedToken Token)>> _byFirst = [];
        private readonly SearchValues<char> _firsts;

        public Matcher(List<(string Text, AddedToken Token)> patterns)
        {
            foreach ((string text, AddedToken token) in patterns.Where(p => p.Item1.Length > 0).OrderByDescending(p => p.Item1.Length))
            {
                if (!_byFirst.TryGetValue(text[0], out List<(string, AddedToken)>? list))
                {
                    _byFirst.Add(text[0], list = []);
                }

                list.Add((text, token));
            }

            _firsts = SearchValues.Create([.. _byFirst.Keys]);
        }

        public void Cut(Piece piece, List<Piece> output)
        {
            ReadOnlySpan<char> text = piece.Span;
            int covered = 0;
            int search = 0;
            while (_byFirst.Count > 0 && search < text.Length)
            {
                int found = text[search..].IndexOfAny(_firsts);
                if (found < 0)
                {
                    break;
                }

                int start = search + found;
                if (Longest(text[start..]) is not (string pattern, AddedToken token))
                {
                    search = start + 1;
                    continue;
                }

                int end = start + pattern.Length;
                search = end;
                if (token.SingleWord && (TouchesWord(text[..start], fromEnd: true) || TouchesWord(text[end..], fromEnd: false)))
                {
                    continue;
                }

                if (token.LeftStrip)
                {
                    start = Math.Max(text[..start].TrimEnd().Length, covered);
                }

                if (token.RightStrip)
                {
                    end = text.Length - text[end..].TrimStart().Length;
                }

                if (covered < start)
                {
                    output.Add(piece.Slice(covered, start - covered));
                }

                output.Add(new Piece(piece.Source, piece.Start + start, Math.Max(0, end - start), 0, token.Id));
                covered = end;
            }

            if (covered < text.Length)
            {
                output.Add(piece.Slice(covered, text.Length - covered));
            }
        }

        private (string, AddedToken)? Longest(ReadOnlySpan<char> text)
        {
            foreach ((string Text, AddedToken Token) candidate in _byFirst[text[0]])
            {
                if (text.StartsWith(candidate.Text, StringComparison.Ordinal))
                {
                    return candidate;
                }
            }

            return null;
        }

        private static bool TouchesWord(ReadOnlySpan<char> text, bool fromEnd)
        {
            OperationStatus status = fromEnd
                ? Rune.DecodeLastFromUtf16(text, out Rune rune, out _)
                : Rune.DecodeFromUtf16(text, out rune, out _);
            return status == OperationStatus.Done && CodePointSet.RustWord.Contains(rune.Value);
        }
    }
}
