namespace Engine.Transformer.Tokenization;

/// <summary>
/// Trains a byte-level BPE vocabulary (Sennrich, Haddow, Birch 2016; on bytes as in Radford et al. 2019): text is cut by
/// a pattern, and the most frequent pair of neighbouring symbols becomes a new token until the vocabulary is full.
/// Deterministic: of pairs that occur equally often, the one with the smaller left id wins, then the smaller right id —
/// the reference library's rule. Memory grows with the number of distinct words, not with the text.
/// </summary>
public sealed class BpeTrainer
{
    /// <summary>Llama 3's splitting pattern: words with one leading character, digits in groups of up to three.</summary>
    public const string Llama3Pattern =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// <summary>GPT-2's splitting pattern.</summary>
    public const string Gpt2Pattern = ByteLevelPreTokenizer.Pattern;

    private const int ByteCount = 256;

    private readonly int _vocabularySize;
    private readonly string _pattern;
    private readonly string[] _specialTokens;
    private readonly long _minFrequency;
    private readonly PreTokenizer _preTokenizer;
    private readonly Dictionary<string, long> _words = [];

    /// <summary>Prepares a training run.</summary>
    /// <param name="vocabularySize">Tokens wanted, special tokens and the 256 bytes included.</param>
    /// <param name="pattern">The pattern whose matches are encoded on their own; Oniguruma's syntax.</param>
    /// <param name="specialTokens">They get the ids from 0 on, in this order.</param>
    /// <param name="minFrequency">A pair that occurs less often is not merged.</param>
    /// <exception cref="ArgumentException">The size leaves no room for the bytes, or the pattern or a token is malformed.</exception>
    public BpeTrainer(
        int vocabularySize,
        string pattern = Llama3Pattern,
        IReadOnlyList<string>? specialTokens = null,
        long minFrequency = 2)
    {
        ArgumentNullException.ThrowIfNull(pattern);
        _specialTokens = specialTokens is null ? [] : [.. specialTokens];
        ArgumentOutOfRangeException.ThrowIfLessThan(vocabularySize, ByteCount + _specialTokens.Length);
        ArgumentOutOfRangeException.ThrowIfLessThan(minFrequency, 1);
        if (_specialTokens.Distinct().Count() != _specialTokens.Length || _specialTokens.Any(t => t is not { Length: > 1 }))
        {
            throw new ArgumentException("special tokens must differ and have at least two characters", nameof(specialTokens));
        }

        _vocabularySize = vocabularySize;
        _pattern = pattern;
        _minFrequency = minFrequency;
        try
        {
            _preTokenizer = new PreTokenizerSequence(
            [
                new PatternPreTokenizer(SplitPattern.Parse(pattern), SplitBehavior.Isolated, invert: false),
                new ByteLevelPreTokenizer(addPrefixSpace: false, useRegex: false),
            ]);
        }
        catch (FormatException error)
        {
            throw new ArgumentException(error.Message, nameof(pattern), error);
        }
    }

    /// <summary>Counts the words of a text. Call it once a document: words do not reach across calls.</summary>
    public void Add(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (text.Length == 0)
        {
            return;
        }

        var counts = _words.GetAlternateLookup<ReadOnlySpan<char>>();
        foreach (Piece piece in _preTokenizer.Apply([new Piece(text, 0, text.Length, 0)]))
        {
            counts[piece.Span] = counts.TryGetValue(piece.Span, out long count) ? count + 1 : 1;
        }
    }

    /// <summary>Learns the merges from the texts added so far.</summary>
    /// <returns>The vocabulary; smaller than asked for when no pair occurs often enough.</returns>
    public TrainedBpe Train()
    {
        var tokens = new List<string>(_specialTokens);
        var ids = new Dictionary<string, int>();
        for (int i = 0; i < tokens.Count; i++)
        {
            ids.Add(tokens[i], i);
        }

        // The alphabet in the order of its characters, as the reference numbers it.
        foreach (char character in Enumerable.Range(0, ByteCount).Select(b => ByteLevelAlphabet.ToCharacter((byte)b)).Order())
        {
            ids.Add(character.ToString(), tokens.Count);
            tokens.Add(character.ToString());
        }

        var state = new PairCounts(_words.Count);
        foreach ((string word, long count) in _words)
        {
            state.AddWord([.. word.Select(c => ids[c.ToString()])], count);
        }

        var merges = new List<(string Left, string Right)>();
        while (tokens.Count < _vocabularySize && state.TakeMostFrequent(_minFrequency) is (int left, int right))
        {
            string token = tokens[left] + tokens[right];
            if (!ids.TryGetValue(token, out int id))
            {
                id = tokens.Count;
                ids.Add(token, id);
                tokens.Add(token);
            }

            merges.Add((tokens[left], tokens[right]));
            state.Merge(left, right, id);
        }

        return new TrainedBpe(tokens, merges, _specialTokens, _pattern);
    }
}

/// <summary>The result of <see cref="BpeTrainer.Train"/>.</summary>
/// <param name="Tokens">The vocabulary; a token's place is its id. Special tokens come first.</param>
/// <param name="Merges">The merges in rank order.</param>
/// <param name="SpecialTokens">The special tokens, ids 0, 1, ….</param>
/// <param name="Pattern">The splitting pattern that the vocabulary was trained with.</param>
public sealed record TrainedBpe(
    IReadOnlyList<string> Tokens,
    IReadOnlyList<(string Left, string Right)> Merges,
    IReadOnlyList<string> SpecialTokens,
    string Pattern);
