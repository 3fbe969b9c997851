using System.Globalization;

namespace Engine.Transformer.Tokenization;

/// <summary>
/// A set of Unicode code points: general categories, ranges and nested sets, with ASCII answered from a bitmap.
/// Works on code points, so letters outside the basic plane are classified like any other.
/// </summary>
internal sealed class CodePointSet
{
    private readonly uint _categories;
    private readonly (int Low, int High)[] _ranges;
    private readonly CodePointSet[] _parts;
    private readonly CodePointSet? _intersection;
    private readonly bool _negated;
    private readonly bool _ignoreCase;
    private readonly ulong _asciiLow;
    private readonly ulong _asciiHigh;

    public CodePointSet(
        uint categories,
        IReadOnlyList<(int Low, int High)> ranges,
        IReadOnlyList<CodePointSet>? parts = null,
        CodePointSet? intersection = null,
        bool negated = false,
        bool ignoreCase = false)
    {
        _categories = categories;
        _ranges = [.. ranges];
        _parts = parts is null ? [] : [.. parts];
        _intersection = intersection;
        _negated = negated;
        _ignoreCase = ignoreCase;
        for (int c = 0; c < 64; c++)
        {
            _asciiLow |= Evaluate(c) ? 1UL << c : 0;
            _asciiHigh |= Evaluate(c + 64) ? 1UL << c : 0;
        }
    }

    /// <summary>White_Space: what `\s` means in Oniguruma's and Rust's Unicode modes.</summary>
    public static CodePointSet WhiteSpace { get; } = new(
        Mask(UnicodeCategory.SpaceSeparator, UnicodeCategory.LineSeparator, UnicodeCategory.ParagraphSeparator),
        [(0x09, 0x0D), (0x85, 0x85)]);

    /// <summary>`\w` of Oniguruma: letters, marks, letter numbers, decimal digits, connectors and the circled letters.</summary>
    public static CodePointSet Word { get; } = new(WordCategories, OtherAlphabeticSymbols);

    /// <summary>`\w` of Rust's regex crate: the above with the two join controls (UTS 18, annex C).</summary>
    public static CodePointSet RustWord { get; } = new(WordCategories, [.. OtherAlphabeticSymbols, (0x200C, 0x200D)]);

    public static CodePointSet Digit { get; } = new(Mask(UnicodeCategory.DecimalDigitNumber), []);

    /// <summary>Nd, Nl and No: what Rust's `char::is_numeric` accepts.</summary>
    public static CodePointSet Number { get; } = new(CategoryMask("N")!.Value, []);

    /// <summary>ASCII punctuation and symbols, and every P category: the Punctuation pre-tokenizer's test.</summary>
    public static CodePointSet Punctuation { get; } =
        new(CategoryMask("P")!.Value, [('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]);

    private static uint WordCategories =>
        CategoryMask("L")!.Value | CategoryMask("M")!.Value | Mask(
            UnicodeCategory.LetterNumber, UnicodeCategory.DecimalDigitNumber, UnicodeCategory.ConnectorPunctuation);

    // Symbols (category So) with the derived property Alphabetic: circled and squared Latin letters.
    private static (int, int)[] OtherAlphabeticSymbols =>
        [(0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189)];

    public static uint Mask(params ReadOnlySpan<UnicodeCategory> categories)
    {
        uint mask = 0;
        foreach (UnicodeCategory category in categories)
        {
            mask |= 1u << (int)category;
        }

        return mask;
    }

    /// <summary>The mask of a general category by its short name ("L", "Lu", …); null if there is none of that name.</summary>
    public static uint? CategoryMask(string name)
    {
        // In the order of UnicodeCategory's values.
        const string Names = "LuLlLtLmLoMnMcMeNdNlNoZsZlZpCcCfCsCoPcPdPsPePiPfPoSmScSkSoCn";
        uint mask = 0;
        for (int i = 0; i < Names.Length; i += 2)
        {
            if (Names.AsSpan(i, 2).StartsWith(name, StringComparison.Ordinal) && name.Length > 0)
            {
                mask |= 1u << (i / 2);
            }
        }

        return mask == 0 || name.Length > 2 ? null : mask;
    }

    public bool Contains(int codePoint)
    {
        if (codePoint < 128)
        {
            return ((codePoint < 64 ? _asciiLow : _asciiHigh) >> (codePoint & 63) & 1) != 0;
        }

        return Evaluate(codePoint);
    }

    private bool Evaluate(int codePoint)
    {
        bool inside = Positive(codePoint);
        if (!inside && _ignoreCase)
        {
            foreach (int variant in CaseFolding.Variants(codePoint))
            {
                inside |= Positive(variant);
            }
        }

        return inside != _negated;
    }

    private bool Positive(int codePoint)
    {
        bool inside = (_categories >> (int)CharUnicodeInfo.GetUnicodeCategory(codePoint) & 1) != 0;
        for (int i = 0; i < _ranges.Length && !inside; i++)
        {
            inside = codePoint >= _ranges[i].Low && codePoint <= _ranges[i].High;
        }

        for (int i = 0; i < _parts.Length && !inside; i++)
        {
            inside = _parts[i].Contains(codePoint);
        }

        return inside && (_intersection is null || _intersection.Contains(codePoint));
    }
}
