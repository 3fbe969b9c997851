namespace Engine.Lora.Data;

/// <summary>
/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014) used by counter: value n
/// of a stream is a mix of key and n, and the key is a mix of seed and stream. Streams are independent of one another's use.
/// </summary>
internal struct CounterRandom(ulong seed, ulong stream)
{
    private const ulong Golden = 0x9E3779B97F4A7C15;

    private ulong _state = Mix(Mix(seed + Golden) + stream + Golden);

    /// <summary>64 random bits.</summary>
    public ulong Next() => Mix(_state += Golden);

    /// <summary>A number in [0, bound), every one equally likely: draws below 2^64 mod bound are repeated.</summary>
    public int Below(int bound)
    {
        ulong n = (ulong)bound;
        ulong reject = unchecked(0 - n) % n; // 2^64 mod n
        ulong value;
        do
        {
            value = Next();
        }
        while (value < reject);
        return (int)(value % n);
    }

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
