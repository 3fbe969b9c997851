namespace Engine.Transformer.Tokenization;

/// <summary>The "pre_tokenizer" of a tokenizer.json: cuts pieces into smaller ones that are encoded on their own.</summary>
internal abstract class PreTokenizer
{
    /// <summary>Cuts every piece that is not an added token; empty pieces vanish.</summary>
    public virtual List<Piece> Apply(List<Piece> pieces)
    {
        var output = new List<Piece>(pieces.Count * 2);
        foreach (Piece piece in pieces)
        {
            if (piece.TokenId >= 0)
            {
                output.Add(piece);
            }
            else
            {
                Cut(piece, output);
            }
        }

        return output;
    }

    protected abstract void Cut(Piece piece, List<Piece> output);
}

internal sealed class PreTokenizerSequence(IReadOnlyList<PreTokenizer> parts) : PreTokenizer
{
    public override List<Piece> Apply(List<Piece> pieces) =>
        parts.Aggregate(pieces, (current, part) => part.Apply(current));

    protected override void Cut(Piece piece, List<Piece> output) => output.AddRange(Apply([piece]));
}

/// <summary>Split, Whitespace: a pattern (or what lies between its matches) decides where to cut.</summary>
internal sealed class PatternPreTokenizer(SplitPattern pattern, SplitBehavior behavior, bool invert) : PreTokenizer
{
    protected override void Cut(Piece piece, List<Piece> output)
    {
        var segments = new List<Segment>();
        pattern.Segment(piece.Span, segments);
        Splitter.Emit(segments, behavior, invert, piece, output);
    }
}

/// <summary>WhitespaceSplit, Digits, Punctuation: every character of a set is a match of its own.</summary>
internal sealed class CharacterPreTokenizer(CodePointSet set, SplitBehavior behavior) : PreTokenizer
{
    protected override void Cut(Piece piece, List<Piece> output) =>
        Splitter.Emit(Splitter.Characters(piece.Span, set), behavior, invert: false, piece, output);
}

/// <summary>
/// Metaspace: spaces become a visible mark, one is put in front as the scheme says, and the text is cut before each.
/// </summary>
internal sealed class MetaspacePreTokenizer(char mark, PrependScheme scheme, bool split) : PreTokenizer
{
    private readonly CodePointSet _marks = new(0, [(mark, mark)]);

    protected override void Cut(Piece piece, List<Piece> output)
    {
        string text = piece.ToString().Replace(' ', mark);
        int head = piece.FromTextStart;
        bool prepend = scheme switch
        {
            PrependScheme.Always => true,
            PrependScheme.First => head > 0,
            _ => false,
        };
        if (prepend && text.Length > 0 && text[0] != mark)
        {
            text = mark + text;
            head = head > 0 ? head + 1 : 0;
        }

        var marked = new Piece(text, 0, text.Length, head);
        if (split)
        {
            Splitter.Emit(Splitter.Characters(text, _marks), SplitBehavior.MergedWithNext, invert: false, marked, output);
        }
        else if (text.Length > 0)
        {
            output.Add(marked);
        }
    }
}

/// <summary>When a mark is put in front of a piece: on every piece, on the first of the text, on none.</summary>
internal enum PrependScheme
{
    Always,
    First,
    Never,
}

/// <summary>
/// ByteLevel: optionally a leading space and GPT-2's splitting, then every byte of the UTF-8 form becomes one visible
/// character (Radford et al. 2019, the GPT-2 encoder).
/// </summary>
internal sealed class ByteLevelPreTokenizer(bool addPrefixSpace, bool useRegex) : PreTokenizer
{
    /// <summary>GPT-2's pattern.</summary>
    public const string Pattern =
        @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    private static readonly SplitPattern Gpt2 = SplitPattern.Parse(Pattern);

    public override List<Piece> Apply(List<Piece> pieces)
    {
        List<Piece> cut = base.Apply(pieces);
        int bytes = cut.Sum(p => p.TokenId >= 0 ? 0 : System.Text.Encoding.UTF8.GetByteCount(p.Span));
        var output = new List<Piece>(cut.Count);

        // One string holds all mapped pieces: one allocation instead of one a word.
        string mapped = string.Create(bytes, cut, static (target, source) =>
        {
            foreach (Piece piece in source)
            {
                target = piece.TokenId >= 0 ? target : target[ByteLevelAlphabet.Map(piece.Span, target)..];
            }
        });
        int at = 0;
        foreach (Piece piece in cut)
        {
            if (piece.TokenId >= 0)
            {
                output.Add(piece);
                continue;
            }

            int length = System.Text.Encoding.UTF8.GetByteCount(piece.Span);
            int head = System.Text.Encoding.UTF8.GetByteCount(piece.Span[..piece.FromTextStart]);
            output.Add(new Piece(mapped, at, length, head));
            at += length;
        }

        return output;
    }

    protected override void Cut(Piece piece, List<Piece> output)
    {
        if (addPrefixSpace && (piece.Length == 0 || piece.Span[0] != ' '))
        {
            int head = piece.FromTextStart > 0 ? piece.FromTextStart + 1 : 0;
            piece = new Piece(" " + piece, 0, piece.Length + 1, head);
        }

        if (!useRegex)
        {
            output.Add(piece);
            return;
        }

        var segments = new List<Segment>();
        Gpt2.Segment(piece.Span, segments);
        Splitter.Emit(segments, SplitBehavior.Isolated, invert: false, piece, output);
    }
}
