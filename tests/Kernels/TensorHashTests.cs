using System.Buffers.Binary;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class TensorHashTests
{
    [Fact]
    public void Every_flipped_bit_and_every_exchange_changes_the_hash()
    {
        var random = new Random(1);
        var seen = new HashSet<UInt128>();
        foreach (int length in new[] { 1, 63, 64, 65, 1000, 65536, 65537, 200_000 })
        {
            var bytes = new byte[length];
            random.NextBytes(bytes);
            Assert.True(seen.Add(Hash(bytes)));
            for (int n = 0; n < 300; n++)
            {
                int at = n < 16 ? n % length : n < 32 ? length - 1 - (n % length % 16 % length) : random.Next(length);
                int bit = random.Next(8);
                bytes[at] ^= (byte)(1 << bit);
                UInt128 changed = Hash(bytes);
                bytes[at] ^= (byte)(1 << bit);
                Assert.NotEqual(Hash(bytes), changed);
            }
        }

        // Exchanged 64-bit words and exchanged chunks.
        var words = new byte[3 << 16];
        random.NextBytes(words);
        UInt128 before = Hash(words);
        foreach (int distance in new[] { 8, 16, 64, 1 << 16 })
        {
            byte[] exchanged = [.. words];
            words.AsSpan(distance, distance).CopyTo(exchanged);
            words.AsSpan(0, distance).CopyTo(exchanged.AsSpan(distance));
            Assert.NotEqual(before, Hash(exchanged));
        }
    }

    [Fact]
    public void Zeros_of_different_lengths_shapes_and_dtypes_differ()
    {
        var seen = new HashSet<UInt128>();
        foreach (int length in new[] { 0, 1, 2, 63, 64, 65, 128, 65536, 65600, 131072 })
        {
            Assert.True(seen.Add(Hash(new byte[length])));
        }

        Shape[] shapes = [[], [1], [1, 1], [2, 3], [3, 2], [6], [0], [0, 2]];
        foreach (Shape shape in shapes)
        {
            foreach (DType dtype in TestDevice.FloatTypes.Append(DType.I32))
            {
                using Tensor tensor = Tensor.Zeros(shape, dtype, TestDevice.Current);
                Assert.True(seen.Add(TensorHash.Compute(tensor)), tensor.ToString());
            }
        }
    }

    [Fact]
    public void Rows_with_gaps_hash_as_their_contiguous_copy_for_every_thread_count() =>
        KernelAssert.SameBitsForEveryThreadCount(() =>
        {
            using GuardedTensor gaps = new RandomTensors(2).Normal([301, 333], DType.F32, rowGap: 5);
            using GuardedTensor copy = GuardedTensor.From(gaps.ToDoubles(), [301, 333], DType.F32);
            UInt128 hash = TensorHash.Compute(gaps);
            Assert.Equal(hash, TensorHash.Compute(copy));
            Assert.Equal(32, TensorHash.ComputeText(copy).Length);
            return [GuardedTensor.From([(int)(uint)hash, (int)(uint)(hash >> 96)], [2])];
        });

    /// <summary>The documented steps for less than one chunk, written out with 128-bit integers.</summary>
    [Fact]
    public void The_hash_is_the_documented_one()
    {
        var bytes = new byte[150];
        new Random(3).NextBytes(bytes);
        var header = new byte[8 * 4];
        header[0] = (byte)DType.U8;
        header[4] = 1;
        header[8] = 150;
        var outer = new byte[32];
        BinaryPrimitives.WriteUInt128LittleEndian(outer, Fold(bytes, 0));
        BinaryPrimitives.WriteUInt128LittleEndian(outer.AsSpan(16), Fold(header, 0));
        Assert.Equal(Fold(outer, 150), Hash(bytes));
    }

    private static UInt128 Fold(byte[] bytes, ulong seed)
    {
        ulong[] c = [0x6A09E667F3BCC909, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1];
        ulong[] h = [c[1] ^ seed, c[2], c[3], c[0]];
        var padded = new byte[(bytes.Length + 63) / 64 * 64];
        bytes.CopyTo(padded, 0);
        for (int i = 0; i < padded.Length; i += 16)
        {
            ulong x0 = BitConverter.ToUInt64(padded, i);
            ulong x1 = BitConverter.ToUInt64(padded, i + 8);
            int lane = i / 16 % 4;
            h[lane] = Mix(x0 ^ c[lane], x1 ^ h[lane]);
        }

        ulong length = (ulong)bytes.Length;
        return new UInt128(
            Mix(Mix(h[2] ^ c[0], h[0] ^ length), Mix(h[3] ^ c[2], h[1]) ^ c[3]),
            Mix(Mix(h[0] ^ c[1], h[1] ^ length), Mix(h[2] ^ c[3], h[3]) ^ c[2]));
    }

    private static ulong Mix(ulong a, ulong b)
    {
        UInt128 product = (UInt128)a * b;
        return (ulong)(product >> 64) ^ (ulong)product;
    }

    private static UInt128 Hash(byte[] bytes)
    {
        using Tensor tensor = Tensor.From(bytes, [bytes.Length], TestDevice.Current);
        return TensorHash.Compute(tensor);
    }
}
