using System.Runtime.CompilerServices;

namespace Engine.Kernels;

/// <summary>
/// The counter-based generator Philox4x32-10: four 32-bit words are a function of a 64-bit key and a 128-bit counter, so
/// any element's random number can be drawn again without state. Source: Salmon et al., Parallel random numbers: as easy
/// as 1, 2, 3, SC 2011.
/// </summary>
public static partial class Philox
{
    private const uint Multiplier0 = 0xD2511F53;
    private const uint Multiplier1 = 0xCD9E8D57;
    private const uint Weyl0 = 0x9E3779B9;
    private const uint Weyl1 = 0xBB67AE85;

    /// <summary>The four words of one block: the key is <paramref name="seed"/>, the counter (block, stream).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (uint X, uint Y, uint Z, uint W) Block(ulong seed, ulong stream, ulong block)
    {
        uint c0 = (uint)block, c1 = (uint)(block >> 32), c2 = (uint)stream, c3 = (uint)(stream >> 32);
        uint k0 = (uint)seed, k1 = (uint)(seed >> 32);
        for (int round = 0; round < 10; round++)
        {
            ulong p0 = (ulong)Multiplier0 * c0;
            ulong p1 = (ulong)Multiplier1 * c2;
            c0 = (uint)(p1 >> 32) ^ c1 ^ k0;
            c1 = (uint)p1;
            c2 = (uint)(p0 >> 32) ^ c3 ^ k1;
            c3 = (uint)p0;
            k0 += Weyl0;
            k1 += Weyl1;
        }

        return (c0, c1, c2, c3);
    }

    /// <summary>Word <paramref name="index"/> of a stream: word index mod 4 of block index / 4.</summary>
    public static uint Bits32(ulong seed, ulong stream, ulong index)
    {
        (uint x, uint y, uint z, uint w) = Block(seed, stream, index / 4);
        return (index % 4) switch { 0 => x, 1 => y, 2 => z, _ => w };
    }

    /// <summary>64 bits: the first half of block index / 2 for an even index, its second half for an odd one.</summary>
    public static ulong Bits64(ulong seed, ulong stream, ulong index)
    {
        (uint x, uint y, uint z, uint w) = Block(seed, stream, index / 2);
        return index % 2 == 0 ? ((ulong)y << 32) | x : ((ulong)w << 32) | z;
    }
}
