using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class RmsNormTests
{
    private const float Eps = 1e-6f;

    public static TheoryData<DType, int, int> Cases => NormReference.Cases;

    [Theory]
    [MemberData(nameof(Cases))]
    public void Forward_is_within_its_bound(DType dtype, int rows, int columns)
    {
        var random = new RandomTensors(1);
        Shape shape = [rows, columns];
        using GuardedTensor x = random.Normal(shape, dtype, deviation: 2);
        using GuardedTensor w = random.Normal([columns], dtype, mean: 1);
        using GuardedTensor y = GuardedTensor.Empty(shape, dtype);
        using GuardedTensor rstd = GuardedTensor.Empty([rows], dtype == DType.F64 ? DType.F64 : DType.F32);
        RmsNorm.Forward(x, w, Eps, y, rstd);
        double[] xs = x.ToDoubles();
        double[] ws = w.ToDoubles();
        (_, double[] rstds) = NormReference.Statistics(xs, rows, columns, Eps, centered: false);
        var op = new RmsNormCase(rows, columns, dtype, Backward: false);
        KernelAssert.Close(op, [.. xs.Select((v, i) => v * rstds[i / columns] * ws[i % columns])], y);
        KernelAssert.Close(op, rstds, rstd);
        byte[] expected = y.ToBytes();
        RmsNorm.Forward(x, w, Eps, x, null);
        Assert.Equal(expected, x.ToBytes());
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Backward_is_within_its_bounds(DType dtype, int rows, int columns)
    {
        using NormReference reference = new(dtype, rows, columns, Eps, centered: false);
        RmsNorm.Backward(reference.Dy, reference.X, reference.W, reference.Rstd, reference.Dx, reference.Dw);
        var op = new RmsNormCase(rows, columns, dtype, Backward: true);
        reference.Check(op, op.WeightGradientError(dtype), withBias: false);
    }

    [Fact]
    public void Weights_in_f32_serve_bf16_activations()
    {
        var random = new RandomTensors(2);
        using GuardedTensor x = random.Normal([3, 50], DType.BF16);
        using GuardedTensor w = random.Normal([50], DType.F32, mean: 1);
        using GuardedTensor y = GuardedTensor.Empty([3, 50], DType.BF16);
        RmsNorm.Forward(x, w, Eps, y, null);
        double[] xs = x.ToDoubles();
        double[] ws = w.ToDoubles();
        (_, double[] rstds) = NormReference.Statistics(xs, 3, 50, Eps, centered: false);
        var op = new RmsNormCase(3, 50, DType.BF16, Backward: false);
        KernelAssert.Close(op, [.. xs.Select((v, i) => v * rstds[i / 50] * ws[i % 50])], y);
    }

    [Theory]
    [InlineData(DType.F32, 24)]
    [InlineData(DType.BF16, 128)]
    [InlineData(DType.BF16, 1024)]
    [InlineData(DType.BF16, 1600)]
    [InlineData(DType.F16, 77)]
    public void A_row_does_not_depend_on_the_others(DType dtype, int columns)
    {
        const int Rows = 6;
        using NormReference t = new(dtype, Rows, columns, Eps, centered: false);
        using GuardedTensor y = GuardedTensor.Empty([Rows, columns], dtype);
        RmsNorm.Forward(t.X, t.W, Eps, y, null);
        RmsNorm.Backward(t.Dy, t.X, t.W, t.Rstd, t.Dx, null);
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
            using GuardedTensor rstd = GuardedTensor.From(t.Rstd.ToDoubles().AsSpan(r, 1), [1], DType.F32);
            RmsNorm.Forward(oneX, t.W, Eps, oneY, null);
            RmsNorm.Backward(oneDy, oneX, t.W, rstd, oneDx, null);
            int bytes = columns * dtype.Size();
            Assert.Equal(ys[(r * bytes)..((r + 1) * bytes)], oneY.ToBytes());
            Assert.Equal(gradients[(r * bytes)..((r + 1) * bytes)], oneDx.ToBytes());
        }
    }

    [Fact]
    public void Threads_do_not_change_the_bits_and_dx_may_be_dy() => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        using NormReference t = new(DType.F32, 1501, 65, Eps, centered: false);
        RmsNorm.Backward(t.Dy, t.X, t.W, t.Rstd, t.Dx, t.Dw);
        RmsNorm.Backward(t.Dy, t.X, t.W, t.Rstd, t.Dy, null);
        Assert.Equal(t.Dx.ToBytes(), t.Dy.ToBytes());
        return [t.Take(t.Dx), t.Take(t.Dw)];
    });
}
