using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed unsafe class DropoutTests
{
    public static TheoryData<DType, int> Cases => KernelAssert.FloatTypesWith(0, 1, 6, 41, 2050, 4096);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Keeps_and_scales_by_element_index(DType dtype, int n)
    {
        const float P = 0.3f;
        var key = new DropoutKey(0x123456789ABCDEF0, 77);
        using GuardedTensor x = new RandomTensors(1).Normal([n], dtype);
        using GuardedTensor y = GuardedTensor.Empty([n], dtype);
        Dropout.Apply(x, P, key, y);
        double[] exact = [.. x.ToDoubles().Select((v, i) => Kept(key, i, P) ? v / (1 - (double)P) : 0)];
        KernelAssert.Close(new DropoutCase(n, dtype), exact, y);
    }

    [Theory]
    [InlineData(0f)]
    [InlineData(0.1f)]
    [InlineData(0.5f)]
    [InlineData(0.9f)]
    public void The_share_of_dropped_elements_is_p(float p)
    {
        const int N = 400_000;
        double[] ones = new double[N];
        ones.AsSpan().Fill(1);
        using GuardedTensor x = GuardedTensor.From(ones, [N], DType.F32);
        Dropout.Apply(x, p, new DropoutKey(5, 6), x);
        int dropped = x.ToDoubles().Count(v => v == 0);

        // Five standard deviations of the binomial distribution.
        Assert.InRange(dropped, (N * p) - (5 * Math.Sqrt(N * p * (1 - p))), (N * p) + (5 * Math.Sqrt(N * p * (1 - p))));
    }

    [Fact]
    public void Another_seed_or_stream_is_another_mask()
    {
        using GuardedTensor x = new RandomTensors(2).Normal([1000], DType.F32);
        byte[] first = Masked(new DropoutKey(1, 1));
        Assert.Equal(first, Masked(new DropoutKey(1, 1)));
        Assert.NotEqual(first, Masked(new DropoutKey(1, 2)));
        Assert.NotEqual(first, Masked(new DropoutKey(2, 1)));
        Assert.NotEqual(first, Masked(new DropoutKey(1, 1UL << 40)));

        byte[] Masked(DropoutKey key)
        {
            using GuardedTensor y = GuardedTensor.Empty([1000], DType.F32);
            Dropout.Apply(x, 0.5f, key, y);
            return y.ToBytes();
        }
    }

    [Fact]
    [Trait("Device", "Cpu")]
    public void Many_blocks_at_once_are_the_blocks_one_by_one()
    {
        const ulong First = 0xFFFFFFFE;
        var words = new uint[4 * 11];
        fixed (uint* pointer = words)
        {
            Philox.Fill(0xDEADBEEF01234567, 0xFEDCBA9876543210, First, 11, pointer);
        }

        for (int i = 0; i < words.Length; i++)
        {
            Assert.Equal(Philox.Bits32(0xDEADBEEF01234567, 0xFEDCBA9876543210, (4 * First) + (ulong)i), words[i]);
        }
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void Threads_do_not_change_the_bits(DType dtype) => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        using GuardedTensor x = new RandomTensors(3).Normal([50_001], dtype);
        GuardedTensor y = GuardedTensor.Empty([50_001], dtype);
        Dropout.Apply(x, 0.2f, new DropoutKey(1, 2), y);
        return [y];
    });

    [Theory]
    [InlineData(-0.1f)]
    [InlineData(1f)]
    [InlineData(float.NaN)]
    public void A_probability_outside_its_range_is_refused(float p)
    {
        using GuardedTensor x = GuardedTensor.Empty([1], DType.F32);
        Assert.Throws<ArgumentOutOfRangeException>(() => Dropout.Apply(x, p, default, x));
    }

    private static bool Kept(DropoutKey key, int i, float p) =>
        Philox.Bits32(key.Seed, key.Stream, (ulong)i) >= Math.Round(p * 4294967296.0);
}
