using System.Runtime.InteropServices;

namespace Engine.Transformer.Tokenization;

/// <summary>
/// How often each pair of neighbouring symbols occurs over all words, kept up to date while pairs are merged, and where.
/// The most frequent pair is found by a queue whose entries may be out of date; they are corrected when they come up.
/// </summary>
internal sealed class PairCounts(int words)
{
    private readonly List<int[]> _words = new(words);
    private readonly List<long> _frequencies = new(words);
    private readonly Dictionary<long, long> _counts = [];
    private readonly Dictionary<long, HashSet<int>> _where = [];
    private readonly PriorityQueue<long, (long NegativeCount, long Pair)> _queue = new();

    public void AddWord(int[] symbols, long frequency)
    {
        int index = _words.Count;
        _words.Add(symbols);
        _frequencies.Add(frequency);
        Count(index, 1, null);
    }

    /// <summary>The most frequent pair, the smallest of equals; null when none occurs often enough.</summary>
    public (int Left, int Right)? TakeMostFrequent(long least)
    {
        if (_queue.Count == 0)
        {
            foreach ((long pair, long count) in _counts)
            {
                _queue.Enqueue(pair, (-count, pair));
            }
        }

        while (_queue.TryDequeue(out long pair, out (long NegativeCount, long Pair) priority))
        {
            long count = _counts.GetValueOrDefault(pair);
            if (count == -priority.NegativeCount)
            {
                return count >= least ? ((int)(pair >> 32), (int)(pair & 0xFFFFFFFF)) : null;
            }

            if (count > 0 && count < -priority.NegativeCount)
            {
                _queue.Enqueue(pair, (-count, pair));
            }
        }

        return null;
    }

    /// <summary>Replaces the pair by a new symbol in every word that holds it.</summary>
    public void Merge(int left, int right, int id)
    {
        var grown = new HashSet<long>();
        if (!_where.Remove(BpeModel.Pair(left, right), out HashSet<int>? places))
        {
            return;
        }

        foreach (int index in places)
        {
            Count(index, -1, null);
            _words[index] = Replace(_words[index], left, right, id);
            Count(index, 1, grown);
        }

        foreach (long pair in grown)
        {
            _queue.Enqueue(pair, (-_counts[pair], pair));
        }
    }

    private static int[] Replace(int[] symbols, int left, int right, int id)
    {
        int count = 0;
        for (int i = 0; i < symbols.Length; i++)
        {
            bool match = symbols[i] == left && i + 1 < symbols.Length && symbols[i + 1] == right;
            symbols[count++] = match ? id : symbols[i];
            i += match ? 1 : 0;
        }

        return symbols[..count];
    }

    private void Count(int index, int sign, HashSet<long>? grown)
    {
        int[] symbols = _words[index];
        for (int i = 0; i + 1 < symbols.Length; i++)
        {
            long pair = BpeModel.Pair(symbols[i], symbols[i + 1]);
            CollectionsMarshal.GetValueRefOrAddDefault(_counts, pair, out _) += sign * _frequencies[index];
            if (sign < 0)
            {
                continue;
            }

            grown?.Add(pair);
            if (!_where.TryGetValue(pair, out HashSet<int>? places))
            {
                _where.Add(pair, places = []);
            }

            places.Add(index);
        }
    }
}
