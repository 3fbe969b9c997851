using System.Text;

namespace Engine.Transformer.Tokenization;

/// <summary>The "normalizer" of a tokenizer.json: text to text, before anything is split.</summary>
internal abstract class Normalizer
{
    public abstract string Apply(string text);

    /// <summary>The text with the number of leading units that stem from the input's first character.</summary>
    public virtual NormalizedText Apply(NormalizedText input)
    {
        string text = Apply(input.Text);
        int head = input.FromTextStart == 0 ? 0 : Apply(input.Text[..input.FromTextStart]).Length;
        return new NormalizedText(text, Math.Min(head, text.Length));
    }
}

internal sealed class NormalizerSequence(IReadOnlyList<Normalizer> parts) : Normalizer
{
    public override string Apply(string text) => parts.Aggregate(text, (current, part) => part.Apply(current));

    public override NormalizedText Apply(NormalizedText input) =>
        parts.Aggregate(input, (current, part) => part.Apply(current));
}

/// <summary>NFC, NFD, NFKC and NFKD.</summary>
internal sealed class UnicodeFormNormalizer(NormalizationForm form) : Normalizer
{
    public override string Apply(string text) => UnicodeNormalizer.Normalize(text, form);
}

/// <summary>Lower case, character by character: no final-sigma rule.</summary>
internal sealed class LowercaseNormalizer : Normalizer
{
    public override string Apply(string text)
    {
        var output = new StringBuilder(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            CaseFolding.AppendLower(output, rune);
        }

        return output.ToString();
    }
}

/// <summary>Puts a text in front, unless the input is empty.</summary>
internal sealed class PrependNormalizer(string prefix) : Normalizer
{
    public override string Apply(string text) => text.Length == 0 ? text : prefix + text;

    public override NormalizedText Apply(NormalizedText input) =>
        input.Text.Length == 0
            ? input
            : new NormalizedText(prefix + input.Text, input.FromTextStart == 0 ? 0 : input.FromTextStart + prefix.Length);
}

/// <summary>Replaces every match of a pattern by a fixed text.</summary>
internal sealed class ReplaceNormalizer(SplitPattern pattern, string replacement) : Normalizer
{
    public override string Apply(string text) => pattern.Replace(text, replacement);

    public override NormalizedText Apply(NormalizedText input)
    {
        var segments = new List<Segment>();
        pattern.Segment(input.Text, segments);
        int head = 0;
        foreach (Segment segment in segments)
        {
            // A replacement counts as stemming from the last character that it replaces.
            int inside = Math.Clamp(input.FromTextStart - segment.Start, 0, segment.Length);
            head += !segment.IsMatch ? inside : segment.Start + segment.Length <= input.FromTextStart ? replacement.Length : 0;
            if (inside < segment.Length)
            {
                break;
            }
        }

        return new NormalizedText(Apply(input.Text), head);
    }
}

/// <summary>Removes white space at the ends.</summary>
internal sealed class StripNormalizer(bool left, bool right) : Normalizer
{
    public override string Apply(string text)
    {
        // char.IsWhiteSpace is White_Space, all of which lies in the basic plane.
        text = left ? text.TrimStart() : text;
        return right ? text.TrimEnd() : text;
    }

    public override NormalizedText Apply(NormalizedText input)
    {
        string text = Apply(input.Text);
        int removed = left ? input.Text.Length - input.Text.TrimStart().Length : 0;
        return new NormalizedText(text, Math.Clamp(input.FromTextStart - removed, 0, text.Length));
    }
}

/// <summary>Removes combining marks (categories Mn, Mc and Me).</summary>
internal sealed class StripAccentsNormalizer : Normalizer
{
    private static readonly CodePointSet Marks = new(CodePointSet.CategoryMask("M")!.Value, []);

    public override string Apply(string text)
    {
        var output = new StringBuilder(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (!Marks.Contains(rune.Value))
            {
                output.Append(rune.ToString());
            }
        }

        return output.ToString();
    }
}
