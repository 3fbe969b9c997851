using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class EmbeddingTests
{
    public static TheoryData<DType, int> Cases => KernelAssert.FloatTypesWith(0, 1, 300);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Forward_copies_rows_and_backward_adds_them(DType dtype, int count)
    {
        const int Vocabulary = 11;
        const int Width = 19;
        var random = new RandomTensors(1);
        int[] rowIds = random.Integers(count, 0, Vocabulary);
        using GuardedTensor ids = GuardedTensor.From(rowIds, [count]);
        using GuardedTensor table = random.Normal([Vocabulary, Width], dtype);
        using GuardedTensor y = GuardedTensor.Empty([count, Width], dtype);
        using GuardedTensor dy = random.Normal([count, Width], dtype);
        double[] values = table.ToDoubles();
        double[] rows = dy.ToDoubles();
        double[] sums = [.. values];
        double[] magnitudes = Reference.Map(values, Math.Abs);
        double[] gathered = new double[count * Width];
        for (int i = 0; i < gathered.Length; i++)
        {
            int element = (rowIds[i / Width] * Width) + (i % Width);
            gathered[i] = values[element];
            sums[element] += rows[i];
            magnitudes[element] += Math.Abs(rows[i]);
        }

        Embedding.Forward(ids, table, y);
        KernelAssert.Close(new EmbeddingCase(count, Vocabulary, Width, dtype, Backward: false), gathered, y);
        Embedding.Backward(ids, dy, table);
        KernelAssert.Close(new EmbeddingCase(count, Vocabulary, Width, dtype, Backward: true), sums, table, magnitudes);
    }

    [Theory]
    [InlineData(DType.F32)]
    [DoubleData(DType.F64)]
    public void Rows_without_an_id_keep_their_bits(DType dtype)
    {
        using GuardedTensor ids = GuardedTensor.From([4, 1, 4, 4], [2, 2]);
        using GuardedTensor dy = GuardedTensor.From([1, 2, 4, 8], [2, 2, 1], DType.F32);
        using GuardedTensor table = GuardedTensor.From([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [6, 1], dtype);
        using GuardedTensor expected = GuardedTensor.From([0.1, 0.2 + 2, 0.3, 0.4, 0.5 + 1 + 4 + 8, 0.6], [6, 1], dtype);
        Embedding.Backward(ids, dy, table);
        Assert.Equal(expected.ToBytes(), table.ToBytes());
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void Threads_do_not_change_the_bits(DType dtype) => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        var random = new RandomTensors(2);
        using GuardedTensor ids = random.Integers([2000], 0, 50);
        using GuardedTensor dy = random.Normal([2000, 65], dtype);
        GuardedTensor table = random.Normal([50, 65], dtype);
        Embedding.Backward(ids, dy, table);
        return [table];
    });

    [Theory]
    [MemberData(nameof(KernelAssert.FloatTypes), MemberType = typeof(KernelAssert))]
    public void An_id_below_zero_has_no_row(DType dtype)
    {
        using GuardedTensor ids = GuardedTensor.From([-1, 2, int.MinValue, 2, 0, -7], [6]);
        using GuardedTensor table = GuardedTensor.From([1, 2, 3, 4, 5, 6], [3, 2], dtype);
        using GuardedTensor y = GuardedTensor.Empty([6, 2], dtype);
        using GuardedTensor dy = GuardedTensor.From([64, 64, 1, 2, 64, 64, 4, 8, 16, 32, 64, 64], [6, 2], dtype);
        Embedding.Forward(ids, table, y);
        Embedding.Backward(ids, dy, table);
        y.AssertGuards();
        table.AssertGuards();
        Assert.Equal([0, 0, 5, 6, 0, 0, 5, 6, 1, 2, 0, 0], y.ToDoubles());
        Assert.Equal([1 + 16, 2 + 32, 3, 4, 5 + 1 + 4, 6 + 2 + 8], table.ToDoubles());

        using GuardedTensor none = GuardedTensor.From([-1, -1], [2]);
        using GuardedTensor empty = GuardedTensor.Empty([0, 2], dtype);
        using GuardedTensor zeros = GuardedTensor.Empty([2, 2], dtype);
        Embedding.Forward(none, empty, zeros);
        Embedding.Backward(none, zeros, empty);
        Assert.Equal([0, 0, 0, 0], zeros.ToDoubles());
    }

    // A GPU does not report what it finds in its operands.
    [Theory]
    [Trait("Device", "Cpu")]
    [InlineData(int.MaxValue)]
    [InlineData(3)]
    public void An_id_outside_the_table_is_named(int id)
    {
        using GuardedTensor ids = GuardedTensor.From([0, id], [2]);
        using GuardedTensor table = GuardedTensor.Empty([3, 2], DType.F32);
        using GuardedTensor y = GuardedTensor.Empty([2, 2], DType.F32);
        string message = Assert.Throws<ArgumentOutOfRangeException>(() => Embedding.Forward(ids, table, y)).Message;
        Assert.Contains($"Embedding.Forward: id {id} at position 1 is outside the table of 3 rows", message);
        Assert.Throws<ArgumentOutOfRangeException>(() => Embedding.Backward(ids, y, table));
    }

    [Fact]
    public void A_width_that_differs_is_refused()
    {
        using GuardedTensor ids = GuardedTensor.From([0, 1], [2]);
        using GuardedTensor table = GuardedTensor.Empty([3, 2], DType.F32);
        using GuardedTensor y = GuardedTensor.Empty([2, 3], DType.F32);
        string message = Assert.Throws<ArgumentException>(() => Embedding.Forward(ids, table, y)).Message;
        Assert.Contains("y has to have 2 rows of 2 elements; it is f32[2, 3]", message);
    }
}
