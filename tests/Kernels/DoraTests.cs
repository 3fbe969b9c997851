using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class DoraTests
{
    public static TheoryData<DType, int, int, int, bool> Cases
    {
        get
        {
            var data = new TheoryData<DType, int, int, int, bool>();
            foreach (DType dtype in TestDevice.FloatTypes)
            {
                foreach ((int n, int k, int r) in new[] { (1, 1, 1), (5, 7, 2), (17, 33, 4), (50, 129, 8) })
                {
                    data.Add(dtype, n, k, r, false);
                    data.Add(dtype, n, k, r, true);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Weight_norm_is_within_its_bound(DType dtype, int n, int k, int r, bool transposed)
    {
        const float Scale = 1.5f;
        var random = new RandomTensors(n + k);
        DType adapter = dtype == DType.F64 ? DType.F64 : DType.F32;
        using GuardedTensor w = random.Normal(transposed ? [k, n] : [n, k], dtype);
        using GuardedTensor a = random.Normal([r, k], adapter);
        using GuardedTensor b = random.Normal([n, r], adapter);
        using GuardedTensor norm = GuardedTensor.Empty([n], adapter);
        // The op takes its own tensors without gaps; the guarded ones are contiguous.
        Dora.WeightNorm(w, a, b, Scale, transposed, norm);
        double[] ws = w.ToDoubles();
        double[] product = new double[n];
        double[] magnitude = new double[n];
        double[] av = a.ToDoubles();
        double[] bv = b.ToDoubles();
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < k; j++)
            {
                double value = ws[transposed ? (j * n) + i : (i * k) + j];
                double absolute = Math.Abs(value);
                for (int t = 0; t < r; t++)
                {
                    double term = Scale * bv[(i * r) + t] * av[(t * k) + j];
                    value += term;
                    absolute += Math.Abs(term);
                }

                product[i] += value * value;
                magnitude[i] += absolute * absolute;
            }
        }

        KernelAssert.Close(
            new DoraCase(n, k, r, dtype), [.. product.Select(Math.Sqrt)], norm, [.. magnitude.Select(Math.Sqrt)]);
    }

    [Fact]
    public void Threads_do_not_change_the_bits() => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        var random = new RandomTensors(3);
        using GuardedTensor w = random.Normal([301, 257], DType.F32);
        using GuardedTensor a = random.Normal([4, 257], DType.F32);
        using GuardedTensor b = random.Normal([301, 4], DType.F32);
        GuardedTensor norm = GuardedTensor.Empty([301], DType.F32);
        GuardedTensor scaled = random.Normal([301, 257], DType.F32);
        Dora.WeightNorm(w, a, b, 2, false, norm);
        Dora.ScaleOutputs(scaled, norm, false);
        return [norm, scaled];
    });

    [Theory]
    [InlineData(DType.F32, false)]
    [InlineData(DType.F32, true)]
    [DoubleData(DType.F64, false)]
    [DoubleData(DType.F64, true)]
    public void Ratio_and_scaling_round_once(DType dtype, bool transposed)
    {
        var random = new RandomTensors(4);
        using GuardedTensor m = random.Normal([13], dtype);
        using GuardedTensor d = random.Normal([13], dtype, mean: 5);
        using GuardedTensor ratio = GuardedTensor.Empty([13], dtype);
        Dora.Ratio(m, d, ratio);
        double[] exact = [.. m.ToDoubles().Zip(d.ToDoubles(), (x, y) => x / y)];
        KernelAssert.Close(ErrorBound.Roundings(dtype, 0, "one division"), "Dora.Ratio", exact, ratio);
        using GuardedTensor w = random.Normal(transposed ? [7, 13] : [13, 7], dtype);
        double[] before = w.ToDoubles();
        double[] factors = ratio.ToDoubles();
        Dora.ScaleOutputs(w, ratio, transposed);
        double[] scaled = [.. before.Select((x, i) => x * factors[transposed ? i % 13 : i / 7])];
        KernelAssert.Close(ErrorBound.Roundings(dtype, 0, "one product"), "Dora.ScaleOutputs", scaled, w);
    }

    [Fact]
    public void Wrong_shapes_are_refused()
    {
        using Tensor w = Tensor.Zeros([4, 6], DType.F32, TestDevice.Current);
        using Tensor a = Tensor.Zeros([2, 5], DType.F32, TestDevice.Current);
        using Tensor b = Tensor.Zeros([4, 2], DType.F32, TestDevice.Current);
        using Tensor norm = Tensor.Zeros([4], DType.F32, TestDevice.Current);
        ArgumentException error = Assert.Throws<ArgumentException>(() => Dora.WeightNorm(w, a, b, 1, false, norm));
        Assert.Contains("[2, 6]", error.Message, StringComparison.Ordinal);
    }
}
