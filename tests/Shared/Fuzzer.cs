using System.Buffers.Binary;
using System.Text;
using Engine.Tensors;

namespace Engine.Tests.Shared;

/// <summary>
/// Feeds a reader inputs that are valid ones damaged at random, from a fixed seed. A reader passes when nothing but
/// <see cref="EngineDataException"/> leaves it and what it allocates is bounded by a multiple of the input's size.
/// </summary>
internal sealed class Fuzzer(int seed, byte[][] valid)
{
    private static readonly string[] s_numbers =
        ["0", "1", "-1", "2", "7", "255", "4096", "65536", "2147483647", "2147483648", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551616", "1e3", "1.5", "-0", "1e999"];

    private static readonly string[] s_tokens =
        ["{", "}", "[", "]", ",", ":", "\"", "\"\"", "null", "true", "[]", "{}", "\\", "\\u0000", "\\ud800", "\\udc00", "\n", "\r", "\0", " ", "[[[[[[[[[[[[", "é", "\uFEFF", "//", "NaN"];

    private readonly Random _random = new(seed);

    /// <summary>Runs <paramref name="read"/> on damaged inputs; returns how many it accepted.</summary>
    /// <param name="count">Number of inputs.</param>
    /// <param name="read">The reader.</param>
    /// <param name="bytesPerByte">Bytes it may allocate for each byte of input.</param>
    /// <param name="constant">Bytes it may allocate beside.</param>
    public int Run(int count, Action<byte[]> read, int bytesPerByte, int constant)
    {
        int accepted = 0;
        for (int i = 0; i < count; i++)
        {
            byte[] input = Mutate();
            long allowed = ((long)bytesPerByte * input.Length) + constant;
            long allocated = Measure(read, input, out bool good);

            // The first use of a message or a pooled buffer pays once for all later ones; a second run shows the input's own cost.
            if (allocated > allowed)
            {
                allocated = Measure(read, input, out good);
            }

            Assert.True(allocated <= allowed, $"input {i} of {input.Length} bytes made the reader allocate {allocated} bytes; {allowed} are allowed: {Encoding.Latin1.GetString(input)}");
            accepted += good ? 1 : 0;
        }

        return accepted;
    }

    private static long Measure(Action<byte[]> read, byte[] input, out bool good)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        try
        {
            read(input);
            good = true;
        }
        catch (EngineDataException)
        {
            good = false;
        }

        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    private byte[] Mutate()
    {
        byte[] bytes = Pick(valid);
        for (int i = _random.Next(1, 5); i > 0; i--)
        {
            bytes = _random.Next(9) switch
            {
                0 => FlipBit(bytes),
                1 => SetByte(bytes),
                2 => bytes[.._random.Next(bytes.Length + 1)],
                3 => Splice(bytes, Pick(valid)),
                4 => Splice(bytes, bytes),
                5 => SetLength(bytes),
                6 or 7 => EditNumber(bytes),
                _ => Insert(bytes, Encoding.UTF8.GetBytes(Pick(s_tokens))),
            };
        }

        return bytes;
    }

    private T Pick<T>(T[] from) => from[_random.Next(from.Length)];

    private byte[] FlipBit(byte[] bytes)
    {
        byte[] result = [.. bytes];
        if (result.Length > 0)
        {
            result[_random.Next(result.Length)] ^= (byte)(1 << _random.Next(8));
        }

        return result;
    }

    private byte[] SetByte(byte[] bytes)
    {
        byte[] result = [.. bytes];
        if (result.Length > 0)
        {
            result[_random.Next(result.Length)] = (byte)_random.Next(256);
        }

        return result;
    }

    // A piece of one input in place of a piece of the other, of another length perhaps.
    private byte[] Splice(byte[] bytes, byte[] other)
    {
        int start = _random.Next(bytes.Length + 1);
        int end = Math.Min(bytes.Length, start + _random.Next(40));
        int from = _random.Next(other.Length + 1);
        int to = Math.Min(other.Length, from + _random.Next(80));
        return [.. bytes[..start], .. other[from..to], .. bytes[end..]];
    }

    private byte[] Insert(byte[] bytes, byte[] piece)
    {
        int at = _random.Next(bytes.Length + 1);
        return [.. bytes[..at], .. piece, .. bytes[at..]];
    }

    // The first eight bytes as a little-endian number: safetensors' header length.
    private byte[] SetLength(byte[] bytes)
    {
        if (bytes.Length < 8)
        {
            return bytes;
        }

        byte[] result = [.. bytes];
        ulong length = _random.Next(7) switch
        {
            0 => (ulong)_random.NextInt64(),
            1 => ulong.MaxValue - (ulong)_random.Next(20),
            2 => 1UL << _random.Next(64),
            3 => (ulong)(bytes.Length - 8),
            4 => 100_000_000 + (ulong)_random.Next(2),
            _ => (ulong)((long)BinaryPrimitives.ReadUInt64LittleEndian(bytes) + _random.Next(-8, 9)),
        };
        BinaryPrimitives.WriteUInt64LittleEndian(result, length);
        return result;
    }

    private byte[] EditNumber(byte[] bytes)
    {
        if (bytes.Length == 0)
        {
            return bytes;
        }

        int start = _random.Next(bytes.Length);
        while (start < bytes.Length && !char.IsAsciiDigit((char)bytes[start]))
        {
            start++;
        }

        int end = start;
        while (end < bytes.Length && char.IsAsciiDigit((char)bytes[end]))
        {
            end++;
        }

        return [.. bytes[..start], .. Encoding.ASCII.GetBytes(Pick(s_numbers)), .. bytes[end..]];
    }
}
