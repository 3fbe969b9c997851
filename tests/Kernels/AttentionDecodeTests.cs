using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class AttentionDecodeTests
{
    public static TheoryData<DType, int[], int[]> Cases
    {
        get
        {
            // Batch, keys held, capacity, heads, key/value heads, dimension; then the first key of each row.
            var data = new TheoryData<DType, int[], int[]>();
            foreach (DType dtype in TestDevice.FloatTypes)
            {
                data.Add(dtype, [1, 1, 1, 1, 1, 1], [0]);
                data.Add(dtype, [2, 37, 64, 6, 2, 32], [0, 5]);
                data.Add(dtype, [3, 200, 200, 4, 4, 20], [-7, 150, 199]);
                data.Add(dtype, [2, 9, 300, 2, 1, 64], [9, int.MaxValue]);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void The_query_sees_the_keys_held_and_nothing_behind_them(DType dtype, int[] sizes, int[] starts)
    {
        (int batch, int held, int capacity) = (sizes[0], sizes[1], sizes[2]);
        (int heads, int keyHeads, int dimension) = (sizes[3], sizes[4], sizes[5]);
        var c = new AttentionCase(batch, 1, held, heads, keyHeads, dimension, dtype, Backward: false);
        var random = new RandomTensors(11);
        float scale = 1 / MathF.Sqrt(dimension);
        using GuardedTensor q = random.Normal([batch, 1, heads, dimension], dtype, 1.5);
        using GuardedTensor k = random.Normal([batch, held, keyHeads, dimension], dtype, 1.5);
        using GuardedTensor v = random.Normal([batch, held, keyHeads, dimension], dtype);

        // What was never written is poison: NaN.
        using GuardedTensor keys = GuardedTensor.Empty([batch, capacity, keyHeads, dimension], dtype, rowGap: 2);
        using GuardedTensor values = GuardedTensor.Empty([batch, capacity, keyHeads, dimension], dtype);
        using GuardedTensor zero = GuardedTensor.From(new int[1], [1]);
        CacheAppend.Run(k, keys, zero);
        CacheAppend.Run(v, values, zero);
        using GuardedTensor keyStart = GuardedTensor.From(starts, [batch, 1]);
        using GuardedTensor length = GuardedTensor.From(new[] { held }, [1]);
        using GuardedTensor o = GuardedTensor.Empty([batch, 1, heads, dimension], dtype, rowGap: 1);
        Attention.Decode(q, keys, values, keyStart, length, scale, o);

        var reference = new AttentionReference(c, q.ToDoubles(), k.ToDoubles(), v.ToDoubles(), starts, scale);
        KernelAssert.Close(c, reference.O, o, reference.OMagnitude);
    }

    [Fact]
    public void Arguments_that_do_not_fit_are_named()
    {
        using Tensor q = Tensor.Zeros([1, 1, 2, 8], DType.F32, Device.Cpu);
        using Tensor two = Tensor.Zeros([1, 2, 2, 8], DType.F32, Device.Cpu);
        using Tensor k = Tensor.Zeros([1, 5, 2, 8], DType.F32, Device.Cpu);
        using Tensor start = Tensor.Zeros([1, 1], DType.I32, Device.Cpu);
        using Tensor starts = Tensor.Zeros([1, 2], DType.I32, Device.Cpu);
        using Tensor o = q.EmptyLike();
        foreach (int length in new[] { 0, 6, -1 })
        {
            using Tensor held = Tensor.From([length], [1], Device.Cpu);
            Assert.Contains(
                "1 to 5", Assert.Throws<ArgumentOutOfRangeException>(() => Attention.Decode(q, k, k, start, held, 1, o)).Message);
        }

        using Tensor one = Tensor.From([1], [1], Device.Cpu);
        Assert.Contains("one query", Assert.Throws<ArgumentException>(() => Attention.Decode(two, k, k, starts, one, 1, two)).Message);
        Assert.Contains("shape [1]", Assert.Throws<ArgumentException>(() => Attention.Decode(q, k, k, start, starts.Reshape(2), 1, o)).Message);
    }
}
