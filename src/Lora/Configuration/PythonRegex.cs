using System.Text;
using System.Text.RegularExpressions;
using Engine.Tensors;

namespace Engine.Lora;

/// <summary>
/// A regular expression in Python's <c>re</c> syntax, run by .NET's engine. The two syntaxes agree on nearly all that
/// appears in adapter files; what differs in spelling is translated (<c>(?P&lt;n&gt;…)</c>, <c>(?P=n)</c>, <c>{,n}</c>,
/// <c>\Z</c>, <c>[</c> inside a class), and what only one of them knows is refused, so that a pattern never means
/// something else here than it means to PEFT.
/// </summary>
internal sealed class PythonRegex
{
    // Adapter files come from outside; a pathological pattern must end in an error, not in an endless match.
    private static readonly TimeSpan s_timeout = TimeSpan.FromSeconds(1);

    private readonly Regex _regex;
    private readonly string _source;
    private readonly string _field;
    private readonly string _pattern;

    private PythonRegex(Regex regex, string source, string field, string pattern) =>
        (_regex, _source, _field, _pattern) = (regex, source, field, pattern);

    /// <summary>The number of capturing groups, the whole match not counted.</summary>
    public int GroupCount => _regex.GetGroupNumbers().Length - 1;

    /// <summary><c>re.fullmatch(pattern, …)</c>.</summary>
    public static PythonRegex Full(string pattern, string source, string field)
    {
        string body = Translate(pattern, source, field, embedded: false);

        // Global flags must stay in front of everything.
        int flags = FlagsLength(body);
        return Create($"{body[..flags]}\\A(?:{body[flags..]})\\z", pattern, source, field);
    }

    /// <summary><c>re.match(before + pattern + after, …)</c>: anchored at the start only.</summary>
    public static PythonRegex Within(string before, string pattern, string after, string source, string field) =>
        Create($"\\A(?:{before}{Translate(pattern, source, field, embedded: true)}{after})", pattern, source, field);

    /// <exception cref="EngineDataException">The match takes longer than a second.</exception>
    public Match Match(string text)
    {
        try
        {
            return _regex.Match(text);
        }
        catch (RegexMatchTimeoutException error)
        {
            throw new EngineDataException(
                $"{_source}: field \"{_field}\": the regular expression \"{_pattern}\" takes too long on \"{text}\"; " +
                "write it without nested repetition",
                error);
        }
    }

    private static PythonRegex Create(string translated, string pattern, string source, string field)
    {
        try
        {
            var regex = new Regex(translated, RegexOptions.CultureInvariant, s_timeout);
            return new PythonRegex(regex, source, field, pattern);
        }
        catch (ArgumentException error)
        {
            throw Invalid(pattern, source, field, error.Message, error);
        }
    }

    private static EngineDataException Invalid(
        string pattern, string source, string field, string reason, Exception? inner = null) =>
        new($"{source}: field \"{field}\": \"{pattern}\" is not a valid regular expression: {reason}", inner);

    private static int FlagsLength(string body)
    {
        int end = body.StartsWith("(?", StringComparison.Ordinal) ? body.IndexOf(')', StringComparison.Ordinal) : -1;
        return end > 2 && body.AsSpan(2, end - 2).IndexOfAnyExcept("ims") < 0 ? end + 1 : 0;
    }

    private static string Translate(string pattern, string source, string field, bool embedded)
    {
        var text = new StringBuilder(pattern.Length + 8);
        bool named = false;
        bool numbered = false;
        for (int i = 0; i < pattern.Length; i++)
        {
            char c = pattern[i];
            switch (c)
            {
                case '\\':
                    i = Escape(pattern, i, text, ref numbered, source, field);
                    break;
                case '[':
                    i = CharacterClass(pattern, i, text, ref numbered, source, field);
                    break;
                case '{' when i + 1 < pattern.Length && pattern[i + 1] == ',' && IsUpperBound(pattern, i + 2):
                    text.Append("{0");
                    break;
                case '(' when i + 1 < pattern.Length && pattern[i + 1] == '?':
                    i = Group(pattern, i, text, ref named, embedded, source, field);
                    break;
                default:
                    text.Append(c);
                    break;
            }
        }

        // .NET numbers named groups after the others, Python in order of appearance.
        return named && numbered
            ? throw Invalid(pattern, source, field, "named groups together with numbered references are not supported")
            : text.ToString();
    }

    private static bool IsUpperBound(string pattern, int start)
    {
        int i = start;
        while (i < pattern.Length && char.IsAsciiDigit(pattern[i]))
        {
            i++;
        }

        return i > start && i < pattern.Length && pattern[i] == '}';
    }

    private static int Escape(
        string pattern, int i, StringBuilder text, ref bool numbered, string source, string field)
    {
        if (i + 1 == pattern.Length)
        {
            throw Invalid(pattern, source, field, "it ends in a single \\");
        }

        char next = pattern[i + 1];
        if (char.IsAsciiLetter(next) && !"aAbBdDfnrsStuvwWxZ".Contains(next, StringComparison.Ordinal))
        {
            throw Invalid(pattern, source, field, $"\\{next} is not an escape of Python's re (or not supported)");
        }

        numbered |= next is >= '1' and <= '9';
        text.Append('\\').Append(next == 'Z' ? 'z' : next);
        return i + 1;
    }

    private static int CharacterClass(
        string pattern, int i, StringBuilder text, ref bool numbered, string source, string field)
    {
        text.Append('[');
        i++;
        if (i < pattern.Length && pattern[i] == '^')
        {
            text.Append('^');
            i++;
        }

        // A ] in first place stands for itself.
        for (bool first = true; i < pattern.Length && (first || pattern[i] != ']'); i++, first = false)
        {
            char c = pattern[i];
            if (c == '\\')
            {
                bool ignored = numbered;
                i = Escape(pattern, i, text, ref ignored, source, field);
            }
            else if (c is '[' or ']')
            {
                // .NET would read -[…] as subtraction.
                text.Append('\\').Append(c);
            }
            else
            {
                text.Append(c);
            }
        }

        if (i >= pattern.Length)
        {
            throw Invalid(pattern, source, field, "a [ is never closed");
        }

        text.Append(']');
        return i;
    }

    private static int Group(
        string pattern, int i, StringBuilder text, ref bool named, bool embedded, string source, string field)
    {
        ReadOnlySpan<char> rest = pattern.AsSpan(i + 2);
        if (rest.StartsWith("P<"))
        {
            named = true;
            text.Append("(?<");
            return i + 3;
        }

        if (rest.StartsWith("P="))
        {
            int end = rest.IndexOf(')');
            if (end < 0)
            {
                throw Invalid(pattern, source, field, "a (?P= is never closed");
            }

            text.Append("\\k<").Append(rest[2..end]).Append('>');
            return i + 2 + end;
        }

        if (rest.StartsWith("<=") || rest.StartsWith("<!"))
        {
            text.Append("(?").Append(rest[..2]);
            return i + 3;
        }

        if (rest.Length > 0 && ":=!>#".Contains(rest[0], StringComparison.Ordinal))
        {
            text.Append("(?").Append(rest[0]);
            return i + 2;
        }

        int flags = rest.IndexOfAnyExcept("ims-");
        if (flags > 0 && rest[flags] == ':')
        {
            text.Append("(?").Append(rest[..(flags + 1)]);
            return i + 2 + flags;
        }

        if (flags > 0 && rest[flags] == ')' && i == 0 && !embedded)
        {
            text.Append("(?").Append(rest[..(flags + 1)]);
            return i + 2 + flags;
        }

        throw Invalid(pattern, source, field, $"(?{rest[..Math.Min(2, rest.Length)]} is not supported here");
    }
}
