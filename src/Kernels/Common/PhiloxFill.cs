using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Engine.Kernels;

/// <content>Many blocks at once.</content>
public static unsafe partial class Philox
{
    /// <summary>The words of <paramref name="count"/> consecutive blocks from block <paramref name="first"/>: four for each.</summary>
    internal static void Fill(ulong seed, ulong stream, ulong first, int count, uint* words)
    {
        int i = 0;
        if (Avx2.IsSupported)
        {
            for (; i <= count - Vector256<ulong>.Count; i += Vector256<ulong>.Count)
            {
                Four(seed, stream, first + (ulong)i, words + (4 * i));
            }
        }

        for (; i < count; i++)
        {
            uint* block = words + (4 * i);
            (block[0], block[1], block[2], block[3]) = Block(seed, stream, first + (ulong)i);
        }
    }

    // Four counters at once, each word in the low half of a 64-bit lane. The multiplication reads low halves only, so
    // what the other operations leave in the high halves does not matter until the end.
    private static void Four(ulong seed, ulong stream, ulong counter, uint* words)
    {
        Vector256<ulong> counters = Vector256.Create(counter) + Vector256.Create(0UL, 1, 2, 3);
        Vector256<ulong> c0 = counters;
        Vector256<ulong> c1 = counters >>> 32;
        Vector256<ulong> c2 = Vector256.Create(stream);
        Vector256<ulong> c3 = Vector256.Create(stream >> 32);
        Vector256<uint> multiplier0 = Vector256.Create((ulong)Multiplier0).AsUInt32();
        Vector256<uint> multiplier1 = Vector256.Create((ulong)Multiplier1).AsUInt32();
        Vector256<ulong> key0 = Vector256.Create(seed);
        Vector256<ulong> key1 = Vector256.Create(seed >> 32);
        Vector256<ulong> weyl0 = Vector256.Create((ulong)Weyl0);
        Vector256<ulong> weyl1 = Vector256.Create((ulong)Weyl1);
        for (int round = 0; round < 10; round++)
        {
            Vector256<ulong> product0 = Avx2.Multiply(c0.AsUInt32(), multiplier0);
            Vector256<ulong> product1 = Avx2.Multiply(c2.AsUInt32(), multiplier1);
            c0 = (product1 >>> 32) ^ c1 ^ key0;
            c1 = product1;
            c2 = (product0 >>> 32) ^ c3 ^ key1;
            c3 = product0;
            key0 += weyl0;
            key1 += weyl1;
        }

        // Words 0, 1 and words 2, 3 of each counter side by side, then counter by counter.
        Vector256<ulong> low = Vector256.Create(0xFFFFFFFFUL);
        Vector256<ulong> words01 = (c0 & low) | (c1 << 32);
        Vector256<ulong> words23 = (c2 & low) | (c3 << 32);
        Vector256<ulong> even = Avx2.UnpackLow(words01, words23);
        Vector256<ulong> odd = Avx2.UnpackHigh(words01, words23);
        Avx2.Permute2x128(even, odd, 0x20).Store((ulong*)words);
        Avx2.Permute2x128(even, odd, 0x31).Store((ulong*)words + 4);
    }
}
