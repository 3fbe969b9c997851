using System.Text;

namespace Engine.Kernels;

/// <summary>
/// Random values on the host for initialisation, from the counter-based Philox generator: value i depends only on
/// (seed, stream, i).
/// </summary>
public static class RandomNumbers
{
    /// <summary>A stream number for a name (FNV-1a, 64 bits): distinct parameters draw independent values.</summary>
    public static ulong StreamOf(string name)
    {
        ulong hash = 14695981039346656037;
        foreach (byte unit in Encoding.UTF8.GetBytes(name))
        {
            hash = (hash ^ unit) * 1099511628211;
        }

        return hash;
    }

    /// <summary>Uniform in [−bound, bound).</summary>
    public static void Uniform(ulong seed, ulong stream, Span<float> values, float bound)
    {
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)(((2 * Unit(seed, stream, (ulong)i)) - 1) * bound);
        }
    }

    /// <summary>Normal with mean 0, by Box and Muller's transform; two values of one pair share a radius.</summary>
    public static void Normal(ulong seed, ulong stream, Span<float> values, float standardDeviation)
    {
        for (int i = 0; i < values.Length; i += 2)
        {
            // 1 − u lies in (0, 1], where the logarithm is finite.
            double radius = standardDeviation * Math.Sqrt(-2 * Math.Log(1 - Unit(seed, stream, (ulong)i)));
            (double sin, double cos) = Math.SinCos(2 * Math.PI * Unit(seed, stream, (ulong)i + 1));
            values[i] = (float)(radius * cos);
            if (i + 1 < values.Length)
            {
                values[i + 1] = (float)(radius * sin);
            }
        }
    }

    /// <summary>Uniform in [0, 1) with 53 bits.</summary>
    public static double Unit(ulong seed, ulong stream, ulong index)
    {
        ulong bits = Philox.Bits64(seed, stream, index);
        return (bits >> 11) * (1.0 / (1UL << 53));
    }
}
