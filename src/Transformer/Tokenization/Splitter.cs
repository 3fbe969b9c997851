using System.Text;

namespace Engine.Transformer.Tokenization;

/// <summary>What becomes of the text that a pre-tokenizer's pattern matched.</summary>
internal enum SplitBehavior
{
    /// <summary>It is dropped.</summary>
    Removed,

    /// <summary>It is a piece of its own.</summary>
    Isolated,

    /// <summary>It joins the piece before it.</summary>
    MergedWithPrevious,

    /// <summary>It joins the piece after it.</summary>
    MergedWithNext,

    /// <summary>Neighbouring matches join, and so does neighbouring text between matches.</summary>
    Contiguous,
}

/// <summary>Turns matches into pieces.</summary>
internal static class Splitter
{
    /// <summary>Every character of the set as one match, runs of others as text between.</summary>
    public static List<Segment> Characters(ReadOnlySpan<char> text, CodePointSet set)
    {
        var segments = new List<Segment>();
        int between = 0;
        int at = 0;
        while (at < text.Length)
        {
            Rune.DecodeFromUtf16(text[at..], out Rune rune, out int units);
            if (set.Contains(rune.Value))
            {
                if (between < at)
                {
                    segments.Add(new Segment(between, at - between, false));
                }

                segments.Add(new Segment(at, units, true));
                between = at + units;
            }

            at += units;
        }

        if (between < at)
        {
            segments.Add(new Segment(between, at - between, false));
        }

        return segments;
    }

    /// <summary>Adds the pieces that the behavior makes of the segments; empty ones are left out.</summary>
    public static void Emit(List<Segment> segments, SplitBehavior behavior, bool invert, Piece piece, List<Piece> output)
    {
        bool reversed = behavior == SplitBehavior.MergedWithNext;
        if (reversed)
        {
            segments.Reverse();
        }

        int first = output.Count;
        int start = 0;
        int end = -1; // no piece is open
        bool previous = false;
        foreach (Segment segment in segments)
        {
            bool isMatch = segment.IsMatch != invert;
            if (behavior == SplitBehavior.Removed && isMatch)
            {
                continue;
            }

            bool join = behavior switch
            {
                SplitBehavior.Contiguous => isMatch == previous,
                SplitBehavior.MergedWithPrevious or SplitBehavior.MergedWithNext => isMatch && !previous,
                _ => false,
            };
            previous = isMatch;
            if (join && end >= 0)
            {
                start = reversed ? segment.Start : start;
                end = reversed ? end : segment.Start + segment.Length;
                continue;
            }

            AddOpen(start, end, piece, output);
            (start, end) = (segment.Start, segment.Start + segment.Length);
        }

        AddOpen(start, end, piece, output);
        if (reversed)
        {
            output.Reverse(first, output.Count - first);
        }
    }

    private static void AddOpen(int start, int end, Piece piece, List<Piece> output)
    {
        if (end > start)
        {
            output.Add(piece.Slice(start, end - start));
        }
    }
}
