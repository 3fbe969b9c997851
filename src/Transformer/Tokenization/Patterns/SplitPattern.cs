using System.Buffers;
using System.Text;

namespace Engine.Transformer.Tokenization;

/// <summary>
/// A regular expression of a tokenizer.json, with Oniguruma's meaning (Ruby syntax, Unicode): `\s` is White_Space,
/// `\p{L}` classifies code points and not UTF-16 units, `(?i:…)` folds ſ to s, `^` and `$` are line anchors. Written
/// for this purpose because .NET's Regex works on UTF-16 units and folds differently. Thread-safe.
/// </summary>
internal sealed class SplitPattern
{
    private readonly PatternNode _root;
    private readonly int _loops;

    private SplitPattern(PatternNode root, int loops)
    {
        _root = root;
        _loops = loops;
    }

    /// <summary>Compiles a pattern.</summary>
    /// <exception cref="FormatException">The pattern is malformed or uses an unsupported construct; the message says which.</exception>
    public static SplitPattern Parse(string pattern)
    {
        var parser = new SplitPatternParser(pattern);
        PatternNode root = parser.Parse();
        return new SplitPattern(root, parser.LoopCount);
    }

    /// <summary>A pattern that matches a string literally.</summary>
    public static SplitPattern Literal(string text)
    {
        PatternNode root = Accept.Instance;
        foreach (Rune rune in text.EnumerateRunes().Reverse())
        {
            root = new LiteralNode(rune.Value, ignoreCase: false) { Next = root };
        }

        return new SplitPattern(root, 0);
    }

    /// <summary>
    /// Cuts the text into matches and what lies between, covering it without gaps. An empty match directly after a match
    /// is passed over, as Oniguruma's iterator does.
    /// </summary>
    public void Segment(ReadOnlySpan<char> text, List<Segment> segments)
    {
        int[]? rented = _loops > 0 ? ArrayPool<int>.Shared.Rent(2 * _loops) : null;
        var state = new MatchState { Text = text };
        if (rented is not null)
        {
            Array.Clear(rented);
            state.Counts = rented.AsSpan(0, _loops);
            state.Starts = rented.AsSpan(_loops, _loops);
        }

        int covered = 0;
        int search = 0;
        int lastEnd = -1;
        while (search <= text.Length)
        {
            int end = _root.Match(ref state, search);
            bool stepOver = end < 0 || (end == search && end == lastEnd);
            if (stepOver)
            {
                search += search < text.Length && char.IsHighSurrogate(text[search]) ? 2 : 1;
                continue;
            }

            if (covered < search)
            {
                segments.Add(new Segment(covered, search - covered, false));
            }

            segments.Add(new Segment(search, end - search, true));
            covered = search = lastEnd = end;
        }

        if (covered < text.Length)
        {
            segments.Add(new Segment(covered, text.Length - covered, false));
        }

        if (rented is not null)
        {
            ArrayPool<int>.Shared.Return(rented);
        }
    }

    /// <summary>Replaces every match by a fixed text.</summary>
    public string Replace(string text, string replacement)
    {
        var segments = new List<Segment>();
        Segment(text, segments);
        if (!segments.Exists(s => s.IsMatch))
        {
            return text;
        }

        var output = new StringBuilder(text.Length);
        foreach (Segment segment in segments)
        {
            if (segment.IsMatch)
            {
                output.Append(replacement);
            }
            else
            {
                output.Append(text, segment.Start, segment.Length);
            }
        }

        return output.ToString();
    }
}

/// <summary>A stretch of a text, in UTF-16 units, and whether the pattern matched it.</summary>
internal readonly record struct Segment(int Start, int Length, bool IsMatch);
