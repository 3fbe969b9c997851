namespace Engine.Cli.Demo;

/// <summary>
/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): the demo's data
/// must be the same bytes on every machine and every .NET version, which <see cref="Random"/> does not promise.
/// </summary>
internal sealed class SplitMix
{
    private const ulong Gamma = 0x9E3779B97F4A7C15;
    private ulong _state;

    /// <summary>A generator whose stream depends only on the two keys.</summary>
    /// <param name="seed">The data set's seed.</param>
    /// <param name="index">Which item of the data set.</param>
    public SplitMix(ulong seed, ulong index)
    {
        // Mixing the seed before adding the index keeps the streams of neighbouring seeds and indices apart.
        _state = Mix(Mix(seed + Gamma) + (index * Gamma));
    }

    /// <summary>The next 64 random bits.</summary>
    public ulong NextBits()
    {
        _state += Gamma;
        return Mix(_state);
    }

    /// <summary>A number in [0, <paramref name="bound"/>).</summary>
    /// <param name="bound">Exclusive upper bound, at least 1.</param>
    public int Next(int bound)
    {
        // The high half of a 64×32-bit product; the bias is below bound / 2^64.
        return (int)Math.BigMul(NextBits(), (ulong)bound, out _);
    }

    /// <summary>A number in [<paramref name="low"/>, <paramref name="high"/>), both included at the low end only.</summary>
    /// <param name="low">Inclusive lower bound.</param>
    /// <param name="high">Exclusive upper bound.</param>
    public int Next(int low, int high) => low + Next(high - low);

    /// <summary>True in <paramref name="percent"/> of 100 cases.</summary>
    /// <param name="percent">Probability in percent.</param>
    public bool Chance(int percent) => Next(100) < percent;

    /// <summary>One element, each with the same probability.</summary>
    /// <param name="items">The elements, at least one.</param>
    /// <typeparam name="T">The elements' type.</typeparam>
    public T Pick<T>(IReadOnlyList<T> items) => items[Next(items.Count)];

    /// <summary>An index drawn with probability proportional to its weight.</summary>
    /// <param name="weights">Non-negative weights, not all zero.</param>
    public int PickWeighted(ReadOnlySpan<int> weights)
    {
        int total = 0;
        foreach (int weight in weights)
        {
            total += weight;
        }

        int draw = Next(total);
        int index = 0;
        while (draw >= weights[index])
        {
            draw -= weights[index];
            index++;
        }

        return index;
    }

    /// <summary>Puts the elements into a random order (Fisher–Yates).</summary>
    /// <param name="items">The elements to shuffle in place.</param>
    /// <typeparam name="T">The elements' type.</typeparam>
    public void Shuffle<T>(IList<T> items)
    {
        for (int i = items.Count - 1; i > 0; i--)
        {
            int j = Next(i + 1);
            (items[i], items[j]) = (items[j], items[i]);
        }
    }

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
