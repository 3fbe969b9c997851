using System.Globalization;

namespace Engine.Transformer.Tokenization;

/// <content>Character classes and escapes.</content>
internal sealed partial class SplitPatternParser
{
    /// <summary>The inside of […] after the opening bracket, up to and including the closing one.</summary>
    private CodePointSet ParseClass(bool ignoreCase)
    {
        if (++_depth > 100)
        {
            throw Error("classes nested more than 100 deep");
        }

        bool negated = Take("^");
        var ranges = new List<(int, int)>();
        var parts = new List<CodePointSet>();
        CodePointSet? intersection = null;
        bool first = true;
        while (true)
        {
            if (_at >= pattern.Length)
            {
                throw Error("a class without ']'");
            }

            if (!first && Take("]"))
            {
                break;
            }

            first = false;
            if (Take("&&"))
            {
                // a && b && c: the rest of the class is the right operand.
                intersection = ParseIntersectionOperand(ignoreCase);
                break;
            }

            if (string.CompareOrdinal(pattern, _at, "[:", 0, 2) == 0)
            {
                throw Error("a POSIX bracket such as [:alpha:], which is not supported (use \\p{…})");
            }

            if (Take("["))
            {
                parts.Add(ParseClass(ignoreCase));
                continue;
            }

            ParseClassItem(ranges, parts);
        }

        _depth--;
        return new CodePointSet(0, ranges, parts, intersection, negated, ignoreCase);
    }

    private CodePointSet ParseIntersectionOperand(bool ignoreCase)
    {
        var ranges = new List<(int, int)>();
        var parts = new List<CodePointSet>();
        CodePointSet? intersection = null;
        while (!Take("]"))
        {
            if (_at >= pattern.Length)
            {
                throw Error("a class without ']'");
            }

            if (Take("&&"))
            {
                intersection = ParseIntersectionOperand(ignoreCase);
                break;
            }

            if (Take("["))
            {
                parts.Add(ParseClass(ignoreCase));
                continue;
            }

            ParseClassItem(ranges, parts);
        }

        return new CodePointSet(0, ranges, parts, intersection, ignoreCase: ignoreCase);
    }

    private void ParseClassItem(List<(int, int)> ranges, List<CodePointSet> parts)
    {
        int low;
        if (Take("\\"))
        {
            if (ParseEscapedSet() is CodePointSet escaped)
            {
                parts.Add(escaped);
                return;
            }

            low = ParseEscapedCodePoint(insideClass: true);
        }
        else
        {
            low = TakeCodePoint();
        }

        bool isRange = _at + 1 < pattern.Length && pattern[_at] == '-' && pattern[_at + 1] is not (']' or '[');
        if (!isRange)
        {
            ranges.Add((low, low));
            return;
        }

        _at++;
        int high = Take("\\") ? ParseEscapedCodePoint(insideClass: true) : TakeCodePoint();
        if (high < low)
        {
            throw Error("a range whose end is before its start");
        }

        ranges.Add((low, high));
    }

    /// <summary>A set escape after the backslash, or null when it is a character escape.</summary>
    private CodePointSet? ParseEscapedSet()
    {
        if (_at >= pattern.Length)
        {
            throw Error("a backslash at the end");
        }

        char c = pattern[_at];
        if (c is 'p' or 'P')
        {
            _at++;
            return ParseProperty(c == 'P');
        }

        CodePointSet? named = char.ToLowerInvariant(c) switch
        {
            's' => CodePointSet.WhiteSpace,
            'd' => CodePointSet.Digit,
            'w' => CodePointSet.Word,
            'h' => new CodePointSet(0, [('0', '9'), ('a', 'f'), ('A', 'F')]),
            _ => null,
        };
        if (named is null)
        {
            return null;
        }

        _at++;
        return char.IsUpper(c) ? new CodePointSet(0, [], [named], negated: true) : named;
    }

    private CodePointSet ParseProperty(bool negated)
    {
        int start = _at;
        int close = Take("{") ? pattern.IndexOf('}', _at) : -1;
        if (close < 0)
        {
            throw Error("\\p without {…}");
        }

        if (Take("^"))
        {
            negated = !negated;
        }

        string name = pattern[_at..close];
        if (CodePointSet.CategoryMask(name) is not uint mask)
        {
            _at = start;
            throw Error($"the property {{{name}}}, which is not supported (supported: general categories such as L, Lu, M, N, Nd, P, S, Z)");
        }

        _at = close + 1;
        return new CodePointSet(mask, [], negated: negated);
    }

    private int ParseEscapedCodePoint(bool insideClass = false)
    {
        int c = TakeCodePoint();
        switch (c)
        {
            case 'n':
                return '\n';
            case 'r':
                return '\r';
            case 't':
                return '\t';
            case 'f':
                return '\f';
            case 'v':
                return '\v';
            case 'a':
                return '\a';
            case 'e':
                return 0x1B;
            case 'b' when insideClass:
                return '\b';
            case 'x':
                return Take("{") ? TakeHex(1, 6, "}") : TakeHex(2, 2, "");
            case 'u':
                return TakeHex(4, 4, "");
            default:
                return char.IsAsciiLetterOrDigit((char)c) && c < 128
                    ? throw Error($"the escape \\{(char)c}, which is not supported")
                    : c;
        }
    }

    private int TakeHex(int least, int most, string close)
    {
        int start = _at;
        while (_at < pattern.Length && _at - start < most && char.IsAsciiHexDigit(pattern[_at]))
        {
            _at++;
        }

        if (_at - start < least || !Take(close))
        {
            throw Error("a malformed hexadecimal escape");
        }

        int digits = _at - start - close.Length;
        int value = int.Parse(pattern.AsSpan(start, digits), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        return value <= 0x10FFFF ? value : throw Error("a code point above 10FFFF");
    }
}
