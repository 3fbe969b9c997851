namespace Engine.Lora.Data;

/// <summary>
/// Joins short examples into rows of at most a given length, so that less is padding. First fit: each example, in
/// order, goes to the first row that has room; the result depends on nothing else. Examples in a row stay apart:
/// <see cref="Example.SegmentStarts"/> tells attention and positions where each begins, and the first token of each is
/// no target, so no example is predicted from the one before it.
/// </summary>
public static class SequencePacker
{
    /// <summary>Packs examples.</summary>
    /// <param name="examples">What to pack, each of at most <paramref name="maxLength"/> tokens.</param>
    /// <param name="maxLength">Tokens in a row at most.</param>
    /// <returns>The rows, each with its <see cref="Example.SegmentStarts"/>.</returns>
    /// <exception cref="ArgumentException">An example is longer than <paramref name="maxLength"/>.</exception>
    public static IReadOnlyList<Example> Pack(IReadOnlyList<Example> examples, int maxLength)
    {
        ArgumentNullException.ThrowIfNull(examples);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxLength);
        var rows = new List<List<Example>>();
        var room = new RoomTree(examples.Count);
        foreach (Example example in examples)
        {
            if (example.Length > maxLength)
            {
                throw new ArgumentException($"an example of {example.Length} tokens does not fit a row of {maxLength}", nameof(examples));
            }

            int row = room.First(example.Length);
            if (row < 0)
            {
                row = rows.Count;
                rows.Add([]);
                room[row] = maxLength;
            }

            rows[row].Add(example);
            room[row] -= example.Length;
        }

        return [.. rows.Select(Join)];
    }

    private static Example Join(List<Example> parts)
    {
        int length = parts.Sum(part => part.Length);
        int[] tokens = new int[length];
        int[] labels = new int[length];
        int[] starts = new int[length];
        int start = 0;
        foreach (Example part in parts)
        {
            part.Tokens.CopyTo(tokens, start);
            part.Labels.CopyTo(labels, start);
            for (int i = 0; i < part.Length; i++)
            {
                starts[start + i] = start + (part.SegmentStarts?[i] ?? 0);
            }

            if (part.Length > 0)
            {
                labels[start] = Example.IgnoredLabel;
            }

            start += part.Length;
        }

        return new Example(tokens, labels) { SegmentStarts = starts };
    }

    // The free room of each row in a tree of maxima: the first row with enough room in O(log rows), not O(rows).
    private sealed class RoomTree
    {
        private readonly int[] _max;
        private readonly int _leaves;

        public RoomTree(int rows)
        {
            _leaves = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(rows, 1));
            _max = new int[2 * _leaves];
        }

        public int this[int row]
        {
            get => _max[_leaves + row];
            set
            {
                int node = _leaves + row;
                _max[node] = value;
                while ((node /= 2) > 0)
                {
                    _max[node] = Math.Max(_max[2 * node], _max[(2 * node) + 1]);
                }
            }
        }

        // Rows not yet opened have room 0; an empty example would find one of them, so it asks for at least 1.
        public int First(int length)
        {
            length = Math.Max(length, 1);
            if (_max[1] < length)
            {
                return -1;
            }

            int node = 1;
            while (node < _leaves)
            {
                node *= 2;
                if (_max[node] < length)
                {
                    node++;
                }
            }

            return node - _leaves;
        }
    }
}
