using System.Text;

namespace Engine.Transformer.Tokenization;

/// <summary>
/// Simple (one to one) case folding for `(?i:…)`. Folds that change the number of characters (ß and ss) are not made;
/// none of the letters in the contraction patterns of published tokenizers takes part in one.
/// </summary>
internal static class CaseFolding
{
    /// <summary>The code point that stands for all case variants of <paramref name="codePoint"/>.</summary>
    public static int Fold(int codePoint) => codePoint switch
    {
        < 0x80 => codePoint is >= 'A' and <= 'Z' ? codePoint | 0x20 : codePoint,
        0x17F => 's', // long s
        0x212A => 'k', // Kelvin sign
        0x212B => 0xE5, // Ångström sign
        0x2126 => 0x3C9, // Ohm sign
        0x1E9E => 0xDF, // capital sharp s
        0x130 or 0x131 => codePoint, // dotted capital I and dotless i fold only in Turkic locales
        _ when !Rune.IsValid(codePoint) => codePoint,
        _ => Rune.ToLowerInvariant(Rune.ToUpperInvariant(new Rune(codePoint))).Value,
    };

    /// <summary>The other code points that share a fold with this one, as far as class membership needs them.</summary>
    public static IEnumerable<int> Variants(int codePoint)
    {
        int fold = Fold(codePoint);
        yield return fold;
        if (Rune.IsValid(fold))
        {
            yield return Rune.ToUpperInvariant(new Rune(fold)).Value;
        }

        int extra = fold switch { 's' => 0x17F, 'k' => 0x212A, 0xE5 => 0x212B, 0x3C9 => 0x2126, 0xDF => 0x1E9E, _ => fold };
        yield return extra;
    }

    /// <summary>Full lower-casing of one code point as Unicode's SpecialCasing gives it without context.</summary>
    public static void AppendLower(StringBuilder output, Rune rune)
    {
        if (rune.Value == 0x130)
        {
            // The only unconditional one-to-many lower-case mapping.
            output.Append("i\u0307");
            return;
        }

        Span<char> units = stackalloc char[2];
        output.Append(units[..Rune.ToLowerInvariant(rune).EncodeToUtf16(units)]);
    }
}
