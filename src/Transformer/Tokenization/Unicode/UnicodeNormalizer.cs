using System.Text;

namespace Engine.Transformer.Tokenization;

/// <summary>
/// The normalization forms of Unicode Standard Annex 15, in managed code: string.Normalize changes nothing where the
/// program runs without ICU (InvariantGlobalization), and tokenizers must not depend on the machine's ICU version.
/// </summary>
internal static class UnicodeNormalizer
{
    private const int HangulBase = 0xAC00;
    private const int HangulCount = 11172;
    private const int LeadBase = 0x1100;
    private const int VowelBase = 0x1161;
    private const int TrailBase = 0x11A7;
    private const int VowelCount = 21;
    private const int TrailCount = 28;

    private static readonly Lazy<NormalizationData> Data = new(NormalizationData.Load);

    /// <summary>The text in the given form. Lone surrogates must have been replaced.</summary>
    public static string Normalize(string text, NormalizationForm form)
    {
        bool compose = form is NormalizationForm.FormC or NormalizationForm.FormKC;
        // Nothing below U+00A0 changes in any form, nothing below U+0300 in form C.
        int firstAffected = form == NormalizationForm.FormC ? 0x300 : 0xA0;
        if (!text.AsSpan().ContainsAnyExceptInRange('\0', (char)(firstAffected - 1)))
        {
            return text;
        }

        bool compatibility = form is NormalizationForm.FormKC or NormalizationForm.FormKD;
        List<int> points = Decompose(text, compatibility);
        if (compose)
        {
            Compose(points);
        }

        var output = new StringBuilder(text.Length);
        Span<char> units = stackalloc char[2];
        foreach (int point in points)
        {
            output.Append(units[..new Rune(point).EncodeToUtf16(units)]);
        }

        return output.ToString();
    }

    private static List<int> Decompose(string text, bool compatibility)
    {
        NormalizationData data = Data.Value;
        var points = new List<int>(text.Length + 16);
        foreach (Rune rune in text.EnumerateRunes())
        {
            int c = rune.Value;
            if (c - HangulBase is >= 0 and < HangulCount)
            {
                int syllable = c - HangulBase;
                points.Add(LeadBase + (syllable / (VowelCount * TrailCount)));
                points.Add(VowelBase + (syllable % (VowelCount * TrailCount) / TrailCount));
                if (syllable % TrailCount != 0)
                {
                    points.Add(TrailBase + (syllable % TrailCount));
                }
            }
            else if (c >= 0xA0 && data.Decomposition(c, compatibility) is int[] parts)
            {
                points.AddRange(parts);
            }
            else
            {
                points.Add(c);
            }
        }

        SortMarks(points, data);
        return points;
    }

    /// <summary>Canonical ordering: each run of marks sorted by combining class, stably.</summary>
    private static void SortMarks(List<int> points, NormalizationData data)
    {
        int start = 0;
        while (start < points.Count)
        {
            if (data.Class(points[start]) == 0)
            {
                start++;
                continue;
            }

            int end = start + 1;
            bool sorted = true;
            while (end < points.Count && data.Class(points[end]) is int next and not 0)
            {
                sorted &= data.Class(points[end - 1]) <= next;
                end++;
            }

            if (!sorted)
            {
                // OrderBy is stable; List.Sort is not.
                int[] run = [.. points.GetRange(start, end - start).OrderBy(data.Class)];
                for (int i = 0; i < run.Length; i++)
                {
                    points[start + i] = run[i];
                }
            }

            start = end;
        }
    }

    private static void Compose(List<int> points)
    {
        NormalizationData data = Data.Value;
        int starter = -1; // index in the output of the last starter
        int lastClass = 0;
        int count = 0;
        for (int i = 0; i < points.Count; i++)
        {
            int c = points[i];
            int ccc = data.Class(c);
            bool adjacent = starter >= 0 && count == starter + 1;
            // A mark is blocked from the starter by a mark of the same or a higher class in between (D115).
            if (starter >= 0 && (adjacent || (lastClass != 0 && lastClass < ccc))
                && ComposePair(points[starter], c, data) is int composite)
            {
                points[starter] = composite;
                continue;
            }

            if (ccc == 0)
            {
                starter = count;
            }

            lastClass = ccc;
            points[count++] = c;
        }

        points.RemoveRange(count, points.Count - count);
    }

    private static int? ComposePair(int first, int second, NormalizationData data)
    {
        if (first - LeadBase is >= 0 and < 19 && second - VowelBase is >= 0 and < VowelCount)
        {
            return HangulBase + ((((first - LeadBase) * VowelCount) + (second - VowelBase)) * TrailCount);
        }

        if (first - HangulBase is >= 0 and < HangulCount && (first - HangulBase) % TrailCount == 0
            && second - TrailBase is > 0 and < TrailCount)
        {
            return first + (second - TrailBase);
        }

        return data.Composite(first, second);
    }
}
