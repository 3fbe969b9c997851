using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class LayerNormTests
{
    private const float Eps = 1e-5f;

    public static TheoryData<DType, int, int> Cases => NormReference.Cases;

    [Theory]
    [MemberData(nameof(Cases))]
    public void Forward_is_within_its_bound(DType dtype, int rows, int columns)
    {
        var random = new RandomTensors(1);
        Shape shape = [rows, columns];
        DType statistics = dtype == DType.F64 ? DType.F64 : DType.F32;
        using GuardedTensor x = random.Normal(shape, dtype, deviation: 2, mean: 1.5);
        using GuardedTensor w = random.Normal([columns], dtype, mean: 1);
        using GuardedTensor b = random.Normal([columns], dtype);
        using GuardedTensor y = GuardedTensor.Empty(shape, dtype);
        using GuardedTensor mean = GuardedTensor.Empty([rows], statistics);
        using GuardedTensor rstd = GuardedTensor.Empty([rows], statistics);
        LayerNorm.Forward(x, w, b, Eps, y, mean, rstd);
        double[] xs = x.ToDoubles();
        double[] ws = w.ToDoubles();
        double[] bs = b.ToDoubles();
        (double[] means, double[] rstds) = NormReference.Statistics(xs, rows, columns, Eps, centered: true);
        var exact = new double[xs.Length];
        var magnitude = new double[xs.Length];
        for (int i = 0; i < xs.Length; i++)
        {
            (int r, int c) = (i / columns, i % columns);
            double normalized = (xs[i] - means[r]) * rstds[r];
            double size = xs.AsSpan(r * columns, columns).ToArray().Sum(Math.Abs) / columns;
            exact[i] = (normalized * ws[c]) + bs[c];
            magnitude[i] = (Math.Abs(ws[c]) * (Math.Abs(normalized) + (rstds[r] * size))) + Math.Abs(bs[c]);
        }

        var op = new LayerNormCase(rows, columns, dtype, Backward: false);
        KernelAssert.Close(op, exact, y, magnitude);
        KernelAssert.Close(op, means, mean, [.. Enumerable.Range(0, rows).Select(r => xs.Skip(r * columns).Take(columns).Sum(Math.Abs) / columns)]);
        KernelAssert.Close(op, rstds, rstd);

        // Statistics are optional, y may be x, b may be absent.
        byte[] expected = y.ToBytes();
        LayerNorm.Forward(x, w, b, Eps, x, null, null);
        Assert.Equal(expected, x.ToBytes());
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Backward_is_within_its_bounds(DType dtype, int rows, int columns)
    {
        using NormReference reference = new(dtype, rows, columns, Eps, centered: true);
        LayerNorm.Backward(reference.Dy, reference.X, reference.W, reference.Mean, reference.Rstd, reference.Dx, reference.Dw, reference.Db);
        var op = new LayerNormCase(rows, columns, dtype, Backward: true);
        reference.Check(op, op.WeightGradientError(dtype), withBias: true);
    }

    [Fact]
    public void Each_gradient_may_be_left_out()
    {
        using NormReference all = new(DType.F32, 9, 37, Eps, centered: true);
        using NormReference some = new(DType.F32, 9, 37, Eps, centered: true);
        LayerNorm.Backward(all.Dy, all.X, all.W, all.Mean, all.Rstd, all.Dx, all.Dw, all.Db);
        LayerNorm.Backward(some.Dy, some.X, some.W, some.Mean, some.Rstd, some.Dx, null, null);
        LayerNorm.Backward(some.Dy, some.X, some.W, some.Mean, some.Rstd, null, some.Dw, null);
        LayerNorm.Backward(some.Dy, some.X, some.W, some.Mean, some.Rstd, null, null, some.Db);
        Assert.Equal(all.Dx.ToBytes(), some.Dx.ToBytes());
        Assert.Equal(all.Dw.ToBytes(), some.Dw.ToBytes());
        Assert.Equal(all.Db.ToBytes(), some.Db.ToBytes());
    }

    [Fact]
    public void Without_a_bias_the_bias_is_zero()
    {
        var random = new RandomTensors(3);
        using GuardedTensor x = random.Normal([4, 21], DType.BF16);
        using GuardedTensor w = random.Normal([21], DType.F32);
        using GuardedTensor zero = GuardedTensor.From(new double[21], [21], DType.F32);
        using GuardedTensor with = GuardedTensor.Empty([4, 21], DType.BF16);
        using GuardedTensor without = GuardedTensor.Empty([4, 21], DType.BF16);
        LayerNorm.Forward(x, w, zero, Eps, with, null, null);
        LayerNorm.Forward(x, w, null, Eps, without, null, null);
        Assert.Equal(with.ToDoubles(), without.ToDoubles());
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void Threads_do_not_change_the_bits(DType dtype) => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        using NormReference t = new(dtype, 2003, 33, Eps, centered: true);
        GuardedTensor y = GuardedTensor.Empty([2003, 33], dtype);
        LayerNorm.Forward(t.X, t.W, null, Eps, y, null, null);
        LayerNorm.Backward(t.Dy, t.X, t.W, t.Mean, t.Rstd, t.Dx, t.Dw, t.Db);
        return [y, t.Take(t.Dx), t.Take(t.Dw), t.Take(t.Db)];
    });

    [Theory]
    [InlineData(DType.F32, 24)]
    [InlineData(DType.BF16, 128)]
    [InlineData(DType.BF16, 1024)]
    [InlineData(DType.BF16, 1600)]
    [InlineData(DType.F16, 77)]
    public void A_row_does_not_depend_on_the_others(DType dtype, int columns)
    {
        const int Rows = 6;
        using NormReference t = new(dtype, Rows, columns, Eps, centered: true);
        using GuardedTensor y = GuardedTensor.Empty([Rows, columns], dtype);
        LayerNorm.Forward(t.X, t.W, t.Db, Eps, y, null, null);
        LayerNorm.Backward(t.Dy, t.X, t.W, t.Mean, t.Rstd, t.Dx, null, null);
        byte[] ys = y.ToBytes();
        byte[] gradients = t.Dx.ToBytes();
        double[] x = t.X.ToDoubles();
        double[] dy = t.Dy.ToDoubles();
        for (int r = 0; r < Rows; r++)
        {
            Range row = (r * columns)..((r + 1) * columns);
            using GuardedTensor oneX = GuardedTensor.From(x.AsSpan(row), [1, columns], dtype);
            using GuardedTensor oneDy = GuardedTensor.From(dy.AsSpan(row), [1, columns], dtype);
            using GuardedTensor oneY = GuardedTensor.Empty([1, columns], dtype);
            using GuardedTensor oneDx = GuardedTensor.Empty([1, columns], dtype);
            using GuardedTensor mean = GuardedTensor.From(t.Mean.ToDoubles().AsSpan(r, 1), [1], DType.F32);
            using GuardedTensor rstd = GuardedTensor.From(t.Rstd.ToDoubles().AsSpan(r, 1), [1], DType.F32);
            LayerNorm.Forward(oneX, t.W, t.Db, Eps, oneY, null, null);
            LayerNorm.Backward(oneDy, oneX, t.W, mean, rstd, oneDx, null, null);
            int bytes = columns * dtype.Size();
            Assert.Equal(ys[(r * bytes)..((r + 1) * bytes)], oneY.ToBytes());
            Assert.Equal(gradients[(r * bytes)..((r + 1) * bytes)], oneDx.ToBytes());
        }
    }

    [Fact]
    public void Weights_of_another_length_are_refused()
    {
        using GuardedTensor x = GuardedTensor.Empty([2, 3], DType.F32);
        using GuardedTensor w = GuardedTensor.Empty([4], DType.F32);
        string message = Assert.Throws<ArgumentException>(() => LayerNorm.Forward(x, w, null, Eps, x, null, null)).Message;
        Assert.Contains("LayerNorm.Forward: w has to have 3 elements; it is f32[4]", message);
    }
}
