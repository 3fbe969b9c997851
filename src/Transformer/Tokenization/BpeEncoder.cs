using System.Text;

namespace Engine.Transformer.Tokenization;

/// <summary>
/// Encodes words with a <see cref="BpeModel"/>: the symbols stand in a doubly linked list, candidate merges in a priority
/// queue by (rank, position), so a word of n characters costs O(n log n). Remembers recent words, up to a fixed number.
/// Holds working memory: one thread at a time.
/// </summary>
internal sealed class BpeEncoder(BpeModel model)
{
    private const int CachedWords = 16_384;
    private const int CachedWordLength = 128;

    private readonly Dictionary<string, int[]> _cache = [];
    private readonly PriorityQueue<int, long> _queue = new();
    private readonly StringBuilder _affixed = new();
    private int[] _symbols = new int[64];
    private int[] _previous = new int[64];
    private int[] _next = new int[64];
    private int _count;

    /// <summary>Appends the ids of one word (a pre-tokenizer's piece).</summary>
    public void Encode(ReadOnlySpan<char> word, List<int> output)
    {
        if (word.IsEmpty)
        {
            return;
        }

        if (model.Options.IgnoreMerges && model.TryGetId(word, out int whole))
        {
            output.Add(whole);
            return;
        }

        // SentencePiece styles hand over the whole text as one word; cut it where no merge can reach across.
        while (word.Length > CachedWordLength)
        {
            int length = CuttableLength(word);
            EncodeUncut(word[..length], output);
            word = word[length..];
        }

        EncodeUncut(word, output);
    }

    /// <summary>
    /// The length of the first part of the word that can be encoded on its own: up to a place between two known
    /// characters (so that no pending unknown token is affected) that no token spans. The whole length if there is none.
    /// </summary>
    private int CuttableLength(ReadOnlySpan<char> word)
    {
        if (HasAffixes)
        {
            return word.Length;
        }

        Rune left = default;
        bool leftKnown = false;
        for (int at = 0; at < word.Length;)
        {
            Rune.DecodeFromUtf16(word[at..], out Rune right, out int units);
            bool rightKnown = model.TryGetId(word.Slice(at, units), out _);
            if (leftKnown && rightKnown && !model.CanJoin(left, right))
            {
                return at;
            }

            (left, leftKnown) = (right, rightKnown);
            at += units;
        }

        return word.Length;
    }

    private bool HasAffixes =>
        model.Options.ContinuingSubwordPrefix is not null || model.Options.EndOfWordSuffix is not null;

    private void EncodeUncut(ReadOnlySpan<char> word, List<int> output)
    {
        bool cacheable = word.Length <= CachedWordLength;
        if (cacheable && _cache.GetAlternateLookup<ReadOnlySpan<char>>().TryGetValue(word, out int[]? known))
        {
            output.AddRange(known.AsSpan());
            return;
        }

        int first = output.Count;
        SplitIntoSymbols(word);
        MergeAll();
        for (int i = _count == 0 ? -1 : 0; i >= 0; i = _next[i])
        {
            output.Add(_symbols[i]);
        }

        if (cacheable)
        {
            if (_cache.Count >= CachedWords)
            {
                _cache.Clear();
            }

            _cache.Add(word.ToString(), [.. output[first..]]);
        }

        if (_symbols.Length > 1 << 20)
        {
            // Do not hold on to the memory that one huge word needed.
            (_symbols, _previous, _next) = (new int[64], new int[64], new int[64]);
            _queue.TrimExcess();
        }
    }

    private void SplitIntoSymbols(ReadOnlySpan<char> word)
    {
        BpeOptions options = model.Options;
        bool affixes = HasAffixes;
        int pendingUnknown = -1;
        _count = 0;
        Span<byte> utf8 = stackalloc byte[4];
        for (int at = 0; at < word.Length;)
        {
            Rune.DecodeFromUtf16(word[at..], out Rune rune, out int units);
            ReadOnlySpan<char> symbol = word.Slice(at, units);
            if (affixes)
            {
                symbol = WithAffixes(symbol, at == 0, at + units == word.Length);
            }

            at += units;
            if (model.TryGetId(symbol, out int id))
            {
                FlushUnknown(ref pendingUnknown);
                Append(id);
                continue;
            }

            // The reference does not flush a pending unknown before byte tokens: it comes out after them.
            if (options.ByteFallback && AppendBytes(symbol, utf8))
            {
                continue;
            }

            if (options.UnknownId is int unknown)
            {
                if (!options.FuseUnknown)
                {
                    FlushUnknown(ref pendingUnknown);
                }

                pendingUnknown = unknown;
            }
        }

        FlushUnknown(ref pendingUnknown);
    }

    private ReadOnlySpan<char> WithAffixes(ReadOnlySpan<char> symbol, bool isFirst, bool isLast)
    {
        _affixed.Clear();
        _affixed.Append(isFirst ? "" : model.Options.ContinuingSubwordPrefix).Append(symbol)
            .Append(isLast ? model.Options.EndOfWordSuffix : "");
        return _affixed.ToString();
    }

    private bool AppendBytes(ReadOnlySpan<char> symbol, Span<byte> utf8)
    {
        if (symbol.Length > 2)
        {
            // Only with affixes can a symbol be longer than one character.
            utf8 = new byte[Encoding.UTF8.GetMaxByteCount(symbol.Length)];
        }

        int count = Encoding.UTF8.GetBytes(symbol, utf8);
        foreach (byte value in utf8[..count])
        {
            if (model.ByteId(value) < 0)
            {
                return false;
            }
        }

        foreach (byte value in utf8[..count])
        {
            Append(model.ByteId(value));
        }

        return true;
    }

    private void FlushUnknown(ref int pending)
    {
        if (pending >= 0)
        {
            Append(pending);
            pending = -1;
        }
    }

    private void Append(int id)
    {
        if (_count == _symbols.Length)
        {
            Array.Resize(ref _symbols, _count * 2);
            Array.Resize(ref _previous, _count * 2);
            Array.Resize(ref _next, _count * 2);
        }

        _symbols[_count] = id;
        _previous[_count] = _count - 1;
        _next[_count] = -1;
        if (_count > 0)
        {
            _next[_count - 1] = _count;
        }

        _count++;
    }

    private void MergeAll()
    {
        _queue.Clear();
        for (int i = 0; i + 1 < _count; i++)
        {
            Propose(i, i + 1);
        }

        while (_queue.TryDequeue(out int newId, out long key))
        {
            int at = (int)(key & 0xFFFFFFFF);
            int right = _next[at];
            if (_symbols[at] < 0 || right < 0)
            {
                continue; // merged into its left neighbour since, or the last symbol now
            }

            // A stale proposal: the pair has changed since. As in the reference, a changed pair that yields the same
            // token is merged now, at the old proposal's rank.
            if (!model.TryGetMerge(_symbols[at], _symbols[right], out (int Rank, int NewId) merge) || merge.NewId != newId)
            {
                continue;
            }

            _symbols[at] = newId;
            _symbols[right] = -1;
            int after = _next[right];
            _next[at] = after;
            if (after >= 0)
            {
                _previous[after] = at;
                Propose(at, after);
            }

            if (_previous[at] >= 0)
            {
                Propose(_previous[at], at);
            }
        }
    }

    private void Propose(int left, int right)
    {
        if (model.TryGetMerge(_symbols[left], _symbols[right], out (int Rank, int NewId) merge))
        {
            _queue.Enqueue(merge.NewId, ((long)merge.Rank << 32) | (uint)left);
        }
    }
}
