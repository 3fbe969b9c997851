using System.Globalization;
using System.Text;

namespace Engine.Transformer.Tokenization;

/// <summary>Recursive-descent parser from Oniguruma's Ruby syntax to <see cref="PatternNode"/>s.</summary>
internal sealed partial class SplitPatternParser(string pattern)
{
    private int _at;
    private int _depth;

    /// <summary>How many quantified groups the pattern holds; each needs a counter while matching.</summary>
    public int LoopCount { get; private set; }

    public PatternNode Parse()
    {
        PatternNode root = ParseAlternation(ignoreCase: false, Accept.Instance);
        return _at == pattern.Length ? root : throw Error("unmatched ')'");
    }

    private FormatException Error(string what) => new($"{what} at position {_at} of the pattern {pattern}");

    private bool Take(string text)
    {
        if (string.CompareOrdinal(pattern, _at, text, 0, text.Length) != 0)
        {
            return false;
        }

        _at += text.Length;
        return true;
    }

    private int TakeCodePoint()
    {
        if (_at >= pattern.Length)
        {
            throw Error("the pattern ends too early");
        }

        if (!Rune.TryGetRuneAt(pattern, _at, out Rune rune))
        {
            throw Error("a lone surrogate");
        }

        _at += rune.Utf16SequenceLength;
        return rune.Value;
    }

    /// <summary>branch|branch|…, each linked to what follows the group.</summary>
    private PatternNode ParseAlternation(bool ignoreCase, PatternNode next)
    {
        if (++_depth > 100)
        {
            throw Error("groups nested more than 100 deep");
        }

        var branches = new List<PatternNode>();
        do
        {
            branches.Add(ParseBranch(ref ignoreCase, next));
        }
        while (Take("|"));
        _depth--;
        return branches.Count == 1 ? branches[0] : new AlternationNode([.. branches]);
    }

    private PatternNode ParseBranch(ref bool ignoreCase, PatternNode next)
    {
        // Items are parsed from left to right but linked from right to left, since each must know what follows it.
        var builders = new List<Func<PatternNode, PatternNode>>();
        while (_at < pattern.Length && pattern[_at] is not ('|' or ')'))
        {
            if (Take("(?i)"))
            {
                ignoreCase = true;
                continue;
            }

            if (Take("(?-i)"))
            {
                ignoreCase = false;
                continue;
            }

            builders.Add(ParseQuantified(ignoreCase));
        }

        for (int i = builders.Count - 1; i >= 0; i--)
        {
            next = builders[i](next);
        }

        return next;
    }

    private Func<PatternNode, PatternNode> ParseQuantified(bool ignoreCase)
    {
        CodePointSet? set = null;
        Func<PatternNode, PatternNode> item = ParseAtom(ignoreCase, ref set);
        while (ParseQuantifier() is (int min, int max, Greed greed))
        {
            if (set is not null)
            {
                CodePointSet run = set;
                item = next => new SetRunNode(run, min, max, greed) { Next = next };
                set = null;
                continue;
            }

            Func<PatternNode, PatternNode> inner = item;
            int index = LoopCount++;
            item = next => BuildLoop(inner, index, min, max, greed, next);
        }

        return item;
    }

    private static PatternNode BuildLoop(
        Func<PatternNode, PatternNode> inner, int index, int min, int max, Greed greed, PatternNode next)
    {
        bool possessive = greed == Greed.Possessive;
        var loop = new LoopNode(index, min, max, possessive ? Greed.Greedy : greed)
        {
            Next = possessive ? Accept.Instance : next,
        };
        loop.Body = inner(loop);
        var entry = new LoopEntryNode(loop);
        return possessive ? new IsolatedNode(entry, IsolatedKind.Atomic) { Next = next } : entry;
    }

    private (int Min, int Max, Greed Greed)? ParseQuantifier()
    {
        int start = _at;
        int min;
        int max;
        bool interval = false;
        if (Take("*"))
        {
            (min, max) = (0, int.MaxValue);
        }
        else if (Take("+"))
        {
            (min, max) = (1, int.MaxValue);
        }
        else if (Take("?"))
        {
            (min, max) = (0, 1);
        }
        else if (Take("{"))
        {
            interval = true;
            int? low = TakeNumber();
            int? high = Take(",") ? TakeNumber() ?? int.MaxValue : low;
            if (!Take("}") || high is null || (low is null && high == int.MaxValue))
            {
                _at = start; // not a quantifier: Oniguruma reads the brace as itself
                return null;
            }

            (min, max) = (low ?? 0, high.Value);
            if (min > max)
            {
                throw Error("a quantifier whose minimum is above its maximum");
            }
        }
        else
        {
            return null;
        }

        // In Ruby's syntax {n,m}+ is a quantifier of a quantifier, not a possessive one.
        return (min, max, Take("?") ? Greed.Lazy : !interval && Take("+") ? Greed.Possessive : Greed.Greedy);
    }

    private int? TakeNumber()
    {
        int start = _at;
        while (_at < pattern.Length && char.IsAsciiDigit(pattern[_at]))
        {
            _at++;
        }

        return _at == start
            ? null
            : int.TryParse(pattern.AsSpan(start, _at - start), NumberStyles.None, CultureInfo.InvariantCulture, out int value)
                && value <= 100_000
                ? value
                : throw Error("a repeat count above 100000");
    }

    private Func<PatternNode, PatternNode> ParseAtom(bool ignoreCase, ref CodePointSet? set)
    {
        if (Take("("))
        {
            return ParseGroup(ignoreCase);
        }

        if (Take("["))
        {
            set = ParseClass(ignoreCase);
        }
        else if (Take("."))
        {
            set = new CodePointSet(0, [('\n', '\n')], negated: true);
        }
        else if (Take("^"))
        {
            return next => new AnchorNode(AnchorKind.LineStart) { Next = next };
        }
        else if (Take("$"))
        {
            return next => new AnchorNode(AnchorKind.LineEnd) { Next = next };
        }
        else if (pattern[_at] is '*' or '+' or '?')
        {
            throw Error("a quantifier with nothing before it");
        }
        else if (Take("\\"))
        {
            AnchorKind? anchor = _at >= pattern.Length ? null : pattern[_at] switch
            {
                'A' => AnchorKind.TextStart,
                'z' => AnchorKind.TextEnd,
                'Z' => AnchorKind.TextEndOrFinalNewline,
                'b' => AnchorKind.WordBoundary,
                'B' => AnchorKind.NotWordBoundary,
                _ => null,
            };
            if (anchor is AnchorKind kind)
            {
                _at++;
                return next => new AnchorNode(kind) { Next = next };
            }

            set = ParseEscapedSet();
            if (set is null)
            {
                return ParseLiteral(ParseEscapedCodePoint(), ignoreCase, ref set);
            }
        }
        else
        {
            return ParseLiteral(TakeCodePoint(), ignoreCase, ref set);
        }

        CodePointSet one = set;
        return next => new SetNode(one) { Next = next };
    }

    private static Func<PatternNode, PatternNode> ParseLiteral(int codePoint, bool ignoreCase, ref CodePointSet? set)
    {
        // As a set too, so that a quantified literal is a run.
        set = new CodePointSet(0, [(codePoint, codePoint)], ignoreCase: ignoreCase);
        return next => new LiteralNode(codePoint, ignoreCase) { Next = next };
    }

    private Func<PatternNode, PatternNode> ParseGroup(bool ignoreCase)
    {
        IsolatedKind? isolated = null;
        if (Take("?"))
        {
            if (Take("i:"))
            {
                ignoreCase = true;
            }
            else if (Take("-i:"))
            {
                ignoreCase = false;
            }
            else if (!Take(":"))
            {
                isolated = Take("=") ? IsolatedKind.Ahead
                    : Take("!") ? IsolatedKind.NotAhead
                    : Take("<=") ? IsolatedKind.Behind
                    : Take("<!") ? IsolatedKind.NotBehind
                    : Take(">") ? IsolatedKind.Atomic
                    : throw Error("an unsupported group (supported: (…), (?:…), (?i:…), (?-i:…), (?=…), (?!…), (?<=…), (?<!…), (?>…))");
            }
        }

        if (isolated is IsolatedKind kind)
        {
            PatternNode body = ParseAlternation(ignoreCase, Accept.Instance);
            CloseGroup();
            return next => new IsolatedNode(body, kind) { Next = next };
        }

        // The continuation is known only when the rest of the branch has been parsed: a relay stands in for it.
        var relay = new RelayNode();
        PatternNode content = ParseAlternation(ignoreCase, relay);
        CloseGroup();
        return next =>
        {
            relay.Next = next;
            return content;
        };
    }

    private void CloseGroup()
    {
        if (!Take(")"))
        {
            throw Error("a group without ')'");
        }
    }

    private sealed class RelayNode : PatternNode
    {
        public override int Match(scoped ref MatchState state, int at) => Next.Match(ref state, at);
    }
}
