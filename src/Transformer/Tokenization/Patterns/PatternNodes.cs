using System.Runtime.CompilerServices;
using System.Text;
using Engine.Tensors;

namespace Engine.Transformer.Tokenization;

/// <summary>What a match in progress needs besides the position.</summary>
internal ref struct MatchState
{
    public ReadOnlySpan<char> Text;
    public Span<int> Counts;
    public Span<int> Starts;
}

/// <summary>
/// One step of a compiled pattern. Each node knows what follows it (<see cref="Next"/>), so a match is one chain of
/// calls and backtracking is a return of −1. Runs of one set are loops, not recursion.
/// </summary>
internal abstract class PatternNode
{
    public PatternNode Next { get; set; } = Accept.Instance;

    /// <summary>The end of the match of this node and everything after it, starting at <paramref name="at"/>, or −1.</summary>
    public abstract int Match(scoped ref MatchState state, int at);

    /// <summary>The code point at a position and its length in UTF-16 units; the text holds no lone surrogates.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    protected static int CodePointAt(ReadOnlySpan<char> text, int at, out int units)
    {
        char c = text[at];
        if (char.IsHighSurrogate(c) && at + 1 < text.Length)
        {
            units = 2;
            return char.ConvertToUtf32(c, text[at + 1]);
        }

        units = 1;
        return c;
    }
}

internal sealed class Accept : PatternNode
{
    public static readonly Accept Instance = new();

    public override int Match(scoped ref MatchState state, int at) => at;
}

internal sealed class LiteralNode(int codePoint, bool ignoreCase) : PatternNode
{
    private readonly int _codePoint = ignoreCase ? CaseFolding.Fold(codePoint) : codePoint;

    public override int Match(scoped ref MatchState state, int at)
    {
        if (at >= state.Text.Length)
        {
            return -1;
        }

        int found = CodePointAt(state.Text, at, out int units);
        return (ignoreCase ? CaseFolding.Fold(found) : found) == _codePoint ? Next.Match(ref state, at + units) : -1;
    }
}

internal sealed class SetNode(CodePointSet set) : PatternNode
{
    public CodePointSet Set => set;

    public override int Match(scoped ref MatchState state, int at) =>
        at < state.Text.Length && set.Contains(CodePointAt(state.Text, at, out int units))
            ? Next.Match(ref state, at + units)
            : -1;
}

/// <summary>A quantified set: takes the run in a loop and gives back one code point at a time.</summary>
internal sealed class SetRunNode(CodePointSet set, int min, int max, Greed greed) : PatternNode
{
    public override int Match(scoped ref MatchState state, int at)
    {
        ReadOnlySpan<char> text = state.Text;
        int position = at;
        int count = 0;
        int limit = greed == Greed.Lazy ? min : max;
        int floor = at; // where the minimum is satisfied
        while (count < limit && position < text.Length && set.Contains(CodePointAt(text, position, out int units)))
        {
            position += units;
            if (++count == min)
            {
                floor = position;
            }
        }

        if (count < min)
        {
            return -1;
        }

        if (greed == Greed.Possessive)
        {
            return Next.Match(ref state, position);
        }

        while (true)
        {
            int end = Next.Match(ref state, position);
            if (end >= 0)
            {
                return end;
            }

            if (greed == Greed.Greedy)
            {
                if (position <= floor)
                {
                    return -1;
                }

                position -= char.IsLowSurrogate(text[position - 1]) && position - 2 >= at ? 2 : 1;
            }
            else
            {
                if (count >= max || position >= text.Length || !set.Contains(CodePointAt(text, position, out int units)))
                {
                    return -1;
                }

                position += units;
                count++;
            }
        }
    }
}

internal enum Greed
{
    Greedy,
    Lazy,
    Possessive,
}

internal sealed class AlternationNode(PatternNode[] branches) : PatternNode
{
    public override int Match(scoped ref MatchState state, int at)
    {
        foreach (PatternNode branch in branches)
        {
            int end = branch.Match(ref state, at);
            if (end >= 0)
            {
                return end;
            }
        }

        return -1;
    }
}

/// <summary>Lookaround and atomic groups: an inner pattern that ends by itself.</summary>
internal sealed class IsolatedNode(PatternNode body, IsolatedKind kind) : PatternNode
{
    public override int Match(scoped ref MatchState state, int at)
    {
        if (kind is IsolatedKind.Behind or IsolatedKind.NotBehind)
        {
            return MatchesBefore(ref state, at) == (kind == IsolatedKind.Behind) ? Next.Match(ref state, at) : -1;
        }

        int end = body.Match(ref state, at);
        return kind switch
        {
            IsolatedKind.Ahead => end >= 0 ? Next.Match(ref state, at) : -1,
            IsolatedKind.NotAhead => end < 0 ? Next.Match(ref state, at) : -1,
            _ => end >= 0 ? Next.Match(ref state, end) : -1,
        };
    }

    private bool MatchesBefore(scoped ref MatchState state, int at)
    {
        ReadOnlySpan<char> whole = state.Text;
        state.Text = whole[..at];
        bool found = false;
        for (int start = at; start >= 0 && !found; start--)
        {
            found = body.Match(ref state, start) == at;
        }

        state.Text = whole;
        return found;
    }
}

internal enum IsolatedKind
{
    Ahead,
    NotAhead,
    Behind,
    NotBehind,
    Atomic,
}

internal enum AnchorKind
{
    TextStart,
    TextEnd,
    TextEndOrFinalNewline,
    LineStart,
    LineEnd,
    WordBoundary,
    NotWordBoundary,
}

internal sealed class AnchorNode(AnchorKind kind) : PatternNode
{
    public override int Match(scoped ref MatchState state, int at)
    {
        ReadOnlySpan<char> text = state.Text;
        bool holds = kind switch
        {
            AnchorKind.TextStart => at == 0,
            AnchorKind.TextEnd => at == text.Length,
            AnchorKind.TextEndOrFinalNewline => at == text.Length || (at == text.Length - 1 && text[at] == '\n'),
            AnchorKind.LineStart => at == 0 || (text[at - 1] == '\n' && at < text.Length),
            AnchorKind.LineEnd => at == text.Length || text[at] == '\n',
            AnchorKind.WordBoundary => WordBefore(text, at) != WordAfter(text, at),
            _ => WordBefore(text, at) == WordAfter(text, at),
        };
        return holds ? Next.Match(ref state, at) : -1;
    }

    private static bool WordBefore(ReadOnlySpan<char> text, int at) =>
        Rune.DecodeLastFromUtf16(text[..at], out Rune rune, out _) == System.Buffers.OperationStatus.Done
        && CodePointSet.Word.Contains(rune.Value);

    private static bool WordAfter(ReadOnlySpan<char> text, int at) =>
        at < text.Length && CodePointSet.Word.Contains(CodePointAt(text, at, out _));
}

/// <summary>Entry of a quantified group: starts a fresh count and hands over to the <see cref="LoopNode"/>.</summary>
internal sealed class LoopEntryNode(LoopNode loop) : PatternNode
{
    public override int Match(scoped ref MatchState state, int at)
    {
        int count = state.Counts[loop.Index];
        int start = state.Starts[loop.Index];
        state.Counts[loop.Index] = 0;
        state.Starts[loop.Index] = -1;
        int end = loop.Match(ref state, at);
        state.Counts[loop.Index] = count;
        state.Starts[loop.Index] = start;
        return end;
    }
}

/// <summary>Decides after each turn of a quantified group whether to take another turn or to go on.</summary>
internal sealed class LoopNode(int index, int min, int max, Greed greed) : PatternNode
{
    public int Index => index;

    public PatternNode Body { get; set; } = Accept.Instance;

    public override int Match(scoped ref MatchState state, int at)
    {
        if (!RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            throw new EngineDataException(
                "a tokenizer pattern repeats a group too many times on this text to be matched; use a character class instead of the group");
        }

        int count = state.Counts[index];
        int start = state.Starts[index];
        bool mayStop = count >= min;
        bool mayTurn = count < max && !(mayStop && start == at); // an empty turn would never end
        if (mayStop && greed == Greed.Lazy)
        {
            int end = Next.Match(ref state, at);
            if (end >= 0)
            {
                return end;
            }
        }

        if (mayTurn)
        {
            state.Counts[index] = count + 1;
            state.Starts[index] = at;
            int end = Body.Match(ref state, at);
            if (end >= 0)
            {
                return end;
            }

            state.Counts[index] = count;
            state.Starts[index] = start;
        }

        return mayStop && greed != Greed.Lazy ? Next.Match(ref state, at) : -1;
    }
}
