using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class CacheAppendTests
{
    public static TheoryData<DType, CacheAppendSizes> Cases
    {
        get
        {
            var data = new TheoryData<DType, CacheAppendSizes>();
            foreach (DType dtype in TestDevice.FloatTypes)
            {
                data.Add(dtype, new(2, 3, 9, 2, 5, 4));
                data.Add(dtype, new(1, 1, 1, 1, 1, 0));
                data.Add(dtype, new(3, 4, 6, 2, 16, 2));
                data.Add(dtype, new(2, 3, 5, 2, 8, 4));
                data.Add(dtype, new(2, 3, 5, 2, 8, -2));
                data.Add(dtype, new(2, 3, 5, 2, 8, 5));
                data.Add(dtype, new(2, 3, 5, 2, 8, int.MinValue));
                data.Add(dtype, new(2, 0, 5, 2, 8, 1));
                data.Add(dtype, new(0, 3, 5, 2, 8, 1));
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Entries_arrive_at_their_slots_and_the_others_stay(DType dtype, CacheAppendSizes s)
    {
        using GuardedTensor fused = new RandomTensors(12).Normal([s.Batch, s.Entries, s.Heads + 1, s.Dimension], dtype);
        using Tensor entries = fused.Tensor.Slice(2, 1, s.Heads);
        using GuardedTensor cache = new RandomTensors(13).Normal([s.Batch, s.Capacity, s.Heads, s.Dimension], dtype, rowGap: 3);
        double[] expected = cache.ToDoubles();
        double[] from = fused.ToDoubles();
        for (int n = 0; n < s.Batch * s.Entries * s.Heads * s.Dimension; n++)
        {
            (int rest, int d) = Math.DivRem(n, s.Dimension);
            (rest, int h) = Math.DivRem(rest, s.Heads);
            (int b, int t) = Math.DivRem(rest, s.Entries);
            long slot = (long)s.Position + t;
            if (slot >= 0 && slot < s.Capacity)
            {
                expected[((((b * s.Capacity) + slot) * s.Heads) + h) * s.Dimension + d] =
                    from[((((b * s.Entries) + t) * (s.Heads + 1)) + h + 1) * s.Dimension + d];
            }
        }

        using GuardedTensor position = GuardedTensor.From(new[] { s.Position }, [1]);
        CacheAppend.Run(entries, cache, position);
        cache.AssertGuards();
        Assert.Equal(expected, cache.ToDoubles());
        var c = new CacheAppendCase(s.Batch, s.Entries, s.Capacity, s.Heads, s.Dimension, dtype);
        Assert.Equal(2 * entries.ByteLength, c.Bytes);
    }

    [Fact]
    public void Arguments_that_do_not_fit_are_named()
    {
        using Tensor entries = Tensor.Zeros([1, 2, 3, 4], DType.F32, Device.Cpu);
        using Tensor cache = Tensor.Zeros([1, 8, 2, 4], DType.F32, Device.Cpu);
        using Tensor position = Tensor.Zeros([1], DType.I32, Device.Cpu);
        using Tensor wide = Tensor.Zeros([1], DType.I64, Device.Cpu);
        using Tensor transposed = entries.Transpose(1, 3);
        Assert.Contains("f32[1, capacity, 3, 4]", Assert.Throws<ArgumentException>(() => CacheAppend.Run(entries, cache, position)).Message);
        Assert.Contains("i32", Assert.Throws<ArgumentException>(() => CacheAppend.Run(entries, entries, wide)).Message);
        Assert.Contains("stride 1", Assert.Throws<ArgumentException>(() => CacheAppend.Run(transposed, cache, position)).Message);
    }

    /// <summary>One case of the test.</summary>
    public sealed record CacheAppendSizes(int Batch, int Entries, int Capacity, int Heads, int Dimension, int Position);
}
