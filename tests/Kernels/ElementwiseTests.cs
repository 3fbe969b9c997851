using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class ElementwiseTests
{
    public static TheoryData<DType, int, int> Cases
    {
        get
        {
            var data = new TheoryData<DType, int, int>();
            foreach (DType dtype in TestDevice.FloatTypes)
            {
                foreach ((int rows, int columns) in new[] { (0, 5), (1, 1), (1, 1029), (19, 13), (300, 65), (40, 256) })
                {
                    data.Add(dtype, rows, columns);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Elementwise_ops_are_within_their_bounds(DType dtype, int rows, int columns)
    {
        var random = new RandomTensors(1);
        Shape shape = [rows, columns];
        using GuardedTensor a = random.Normal(shape, dtype);
        using GuardedTensor b = random.Normal(shape, dtype);
        using GuardedTensor sum = GuardedTensor.Empty(shape, dtype);
        using GuardedTensor product = GuardedTensor.Empty(shape, dtype);
        using GuardedTensor scaled = GuardedTensor.Empty(shape, dtype);
        double[] x = a.ToDoubles();
        double[] z = b.ToDoubles();
        Elementwise.Add(a, b, sum);
        Elementwise.Multiply(a, b, product);
        Elementwise.Scale(a, 1.7f, scaled);
        Elementwise.AddScaled(b, a, -0.3f);
        KernelAssert.Close(Case(nameof(Elementwise.Add)), Reference.Map(x, z, (p, q) => p + q), sum);
        KernelAssert.Close(Case(nameof(Elementwise.Multiply)), Reference.Map(x, z, (p, q) => p * q), product);
        KernelAssert.Close(Case(nameof(Elementwise.Scale)), Reference.Map(x, p => 1.7f * p), scaled);
        KernelAssert.Close(
            Case(nameof(Elementwise.AddScaled)),
            Reference.Map(x, z, (p, q) => q + (-0.3f * p)),
            b,
            Reference.Map(x, z, (p, q) => Math.Abs(q) + Math.Abs(0.3 * p)));

        ElementwiseCase Case(string operation) => new(operation, rows, columns, dtype);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Column_ops_are_within_their_bounds(DType dtype, int rows, int columns)
    {
        var random = new RandomTensors(2);
        Shape shape = [rows, columns];
        using GuardedTensor x = random.Normal(shape, dtype);
        using GuardedTensor vector = random.Normal([columns], dtype);
        using GuardedTensor gradient = random.Normal([columns], dtype);
        using GuardedTensor scaled = GuardedTensor.Empty(shape, dtype);
        double[] xs = x.ToDoubles();
        double[] vs = vector.ToDoubles();
        double[] sums = gradient.ToDoubles();
        double[] magnitudes = Reference.Map(sums, Math.Abs);
        for (int i = 0; i < xs.Length; i++)
        {
            sums[i % columns] += xs[i];
            magnitudes[i % columns] += Math.Abs(xs[i]);
        }

        Elementwise.BiasGradient(x, gradient);
        Elementwise.ScaleColumns(x, vector, scaled);
        Elementwise.AddBias(x, vector);
        KernelAssert.Close(Case(nameof(Elementwise.BiasGradient)), sums, gradient, magnitudes);
        KernelAssert.Close(Case(nameof(Elementwise.ScaleColumns)), [.. xs.Select((v, i) => v * vs[i % columns])], scaled);
        KernelAssert.Close(Case(nameof(Elementwise.AddBias)), [.. xs.Select((v, i) => v + vs[i % columns])], x);

        ElementwiseCase Case(string operation) => new(operation, rows, columns, dtype);
    }

    [Fact]
    public void Mixed_dtypes_compute_in_the_wider_type()
    {
        var random = new RandomTensors(3);
        using GuardedTensor y = random.Normal([3, 41], DType.F32);
        using GuardedTensor x = random.Normal([3, 41], DType.BF16);
        using GuardedTensor bias = random.Normal([41], DType.F32);
        double[] ys = y.ToDoubles();
        double[] xs = x.ToDoubles();
        double[] bs = bias.ToDoubles();
        Elementwise.AddScaled(y, x, 2);
        Elementwise.AddBias(x, bias);
        Assert.Equal(Reference.Map(ys, xs, (p, q) => (double)(float)(p + (2 * q))), y.ToDoubles());
        KernelAssert.Close(
            new ElementwiseCase(nameof(Elementwise.AddBias), 3, 41, DType.BF16), [.. xs.Select((v, i) => v + bs[i % 41])], x);
    }

    [Theory]
    [InlineData(DType.F32)]
    [DoubleData(DType.F64)]
    public void A_gradient_wider_than_its_rows_loses_nothing(DType dtype)
    {
        // Multiples of 1∕8 up to 8: their sums are exact in f32 too.
        using GuardedTensor x = GuardedTensor.From([.. new RandomTensors(5).Integers(123, -64, 65).Select(v => v / 8.0)], [3, 41], DType.BF16);
        using GuardedTensor gradient = GuardedTensor.From(new double[41], [41], dtype);
        double[] xs = x.ToDoubles();
        Elementwise.BiasGradient(x, gradient);
        Assert.Equal([.. Enumerable.Range(0, 41).Select(c => xs[c] + xs[c + 41] + xs[c + 82])], gradient.ToDoubles());
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void Threads_do_not_change_the_bits(DType dtype) => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        var random = new RandomTensors(4);
        GuardedTensor x = random.Normal([3001, 67], dtype);
        GuardedTensor gradient = random.Normal([67], dtype);
        using GuardedTensor bias = random.Normal([67], dtype);
        Elementwise.BiasGradient(x, gradient);
        Elementwise.AddBias(x, bias);
        Elementwise.Add(x, x, x);
        return [x, gradient];
    });

    [Fact]
    public void A_vector_of_another_length_is_refused()
    {
        using GuardedTensor x = GuardedTensor.Empty([2, 3], DType.F32);
        using GuardedTensor bias = GuardedTensor.Empty([2], DType.F32);
        string message = Assert.Throws<ArgumentException>(() => Elementwise.AddBias(x, bias)).Message;
        Assert.Contains("Elementwise.AddBias: bias has to have 3 elements; it is f32[2]", message);
    }
}
