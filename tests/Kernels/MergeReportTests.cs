using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(Kernels.Cpu.CpuParallel))]
public sealed class MergeReportTests
{
    // Sums in f64 of the same squares in another order: n·2⁻⁵³ each way, 2·2.3e-12 for the 70 × 301 of the largest matrix, halved by
    // the root; a margin of four.
    private const double Tolerance = 1e-11;

    [Theory]
    [InlineData(DType.F32)]
    [DoubleData(DType.F64)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void Errors_are_those_of_the_merge(DType dtype)
    {
        var tensors = new List<GuardedTensor>();
        var targets = new List<MergeTarget>();
        var random = new RandomTensors(1);
        foreach ((int outputs, int inputs, int gap, float scale) in new[]
            { (70, 301, 0, 0.5f), (3, 5, 3, 1e-3f), (129, 64, 8, 100), (0, 4, 0, 1), (20, 20, 0, 0) })
        {
            bool transposed = gap > 0;
            tensors.Add(random.Normal(transposed ? [inputs, outputs] : [outputs, inputs], dtype, 0.3, rowGap: gap));
            for (int t = 0; t < 2; t++)
            {
                tensors.Add(random.Normal([4, inputs], dtype, 0.1));
                tensors.Add(random.Normal([outputs, 4], dtype, 0.1));
            }

            targets.Add(new MergeTarget(
                tensors[^5], [new(tensors[^4], tensors[^3], scale), new(tensors[^2], tensors[^1], -2 * scale)], transposed));
        }

        byte[][] before = [.. tensors.Select(t => t.ToBytes())];
        IReadOnlyList<MergeError> errors = Merge.Report([.. targets]);
        Assert.Equal(before, tensors.Select(t => t.ToBytes()));
        tensors.ForEach(t => t.AssertGuards());
        for (int i = 0; i < errors.Count; i++)
        {
            MergeError expected = Expected(tensors[5 * i], targets[i]);
            Assert.Equal((expected.Elements, expected.Vanished), (errors[i].Elements, errors[i].Vanished));
            Assert.Equal(expected.Largest, errors[i].Largest);
            Assert.InRange(errors[i].DeltaNorm, expected.DeltaNorm * (1 - Tolerance), expected.DeltaNorm * (1 + Tolerance));
            Assert.InRange(errors[i].Loss, expected.Loss * (1 - Tolerance), expected.Loss * (1 + Tolerance));
            Assert.InRange(errors[i].Relative, 0, 1);
        }

        // Small updates vanish as a whole where the dtype is coarse; no update at all does not count as one.
        Assert.True(errors[1].Vanished == 0 || dtype is DType.BF16 or DType.F16);
        Assert.Equal((0, 0, 0), (errors[4].Vanished, errors[4].Loss, errors[4].Relative));
        tensors.ForEach(t => t.Dispose());
    }

    [Fact]
    public void An_update_below_half_an_ulp_vanishes()
    {
        using GuardedTensor w = GuardedTensor.From([1, 1, 0, 1], [2, 2], DType.BF16);
        using GuardedTensor a = GuardedTensor.From([1, 0], [1, 2], DType.F32);
        using GuardedTensor b = GuardedTensor.From([1, 1], [2, 1], DType.F32);

        // Δ is 2⁻¹⁰ in the first column and 0 in the second; at 1 bf16 has steps of 2⁻⁷, at 0 it holds Δ.
        MergeError error = Merge.Report([new(w, [new(a, b, 1f / 1024)], false)])[0];
        Assert.Equal(1, error.Vanished);
        Assert.Equal(0.25, error.VanishedShare);
        Assert.Equal(1.0 / 1024, error.Largest);
        Assert.Equal(1.0 / 1024, error.Loss);
        Assert.Equal(Math.Sqrt(0.5), error.Relative, 12);
    }

    [Fact]
    public void An_update_that_overflows_has_an_infinite_error()
    {
        using GuardedTensor w = GuardedTensor.From([60000], [1, 1], DType.F16);
        using GuardedTensor one = GuardedTensor.From([1], [1, 1], DType.F32);
        MergeError error = Merge.Report([new(w, [new(one, one, 60000)], false)])[0];
        Assert.Equal((double.PositiveInfinity, double.PositiveInfinity), (error.Loss, error.Largest));
        Assert.Equal(60000, error.DeltaNorm);
    }

    [Theory]
    [InlineData(DType.BF16)]
    [InlineData(DType.F32)]
    public void Results_do_not_depend_on_the_thread_count(DType dtype) =>
        KernelAssert.SameBitsForEveryThreadCount(() =>
        {
            var random = new RandomTensors(5);
            using GuardedTensor w = random.Normal([300, 600], dtype);
            using GuardedTensor a = random.Normal([8, 600], dtype);
            using GuardedTensor b = random.Normal([300, 8], dtype);
            MergeError error = Merge.Report([new(w, [new(a, b, 0.1f)], false)])[0];

            // As halves: the bits count.
            return [GuardedTensor.From([.. Halves(error.Loss), .. Halves(error.DeltaNorm), .. Halves(error.Largest), (int)error.Vanished], [7])];

            static int[] Halves(double x) => [(int)BitConverter.DoubleToInt64Bits(x), (int)(BitConverter.DoubleToInt64Bits(x) >> 32)];
        });

    // Element by element, the merge rounded by the tensor's own conversion. Δ is what a merge adds to zeros: every pass forms the same
    // one, whatever the dtype.
    private static MergeError Expected(GuardedTensor weight, in MergeTarget target)
    {
        Tensor w = target.W;
        double[] before = weight.ToDoubles();
        using GuardedTensor delta = GuardedTensor.From(new double[before.Length], w.Shape, w.DType == DType.F64 ? DType.F64 : DType.F32);
        Merge.Apply([target with { W = delta }]);
        double[] deltas = delta.ToDoubles();
        double[] sums = [.. before.Select((x, i) => w.DType == DType.F64 ? x + deltas[i] : (float)x + (float)deltas[i])];
        using GuardedTensor rounded = GuardedTensor.From(sums, w.Shape, w.DType);
        double[] after = rounded.ToDoubles();
        (double loss, double norm, double largest, long vanished) = (0, 0, 0, 0);
        for (int i = 0; i < before.Length; i++)
        {
            // Of an f64 sum the exact error (Dekker); the other dtypes' differences are exact in f64.
            double error = w.DType == DType.F64 ? SumError(before[i], deltas[i]) : after[i] - before[i] - deltas[i];
            loss += error * error;
            norm += deltas[i] * deltas[i];
            largest = Math.Max(largest, Math.Abs(error));
            vanished += after[i].Equals(before[i]) && deltas[i] != 0 ? 1 : 0;
        }

        return new MergeError(Math.Sqrt(loss), Math.Sqrt(norm), largest, vanished, before.Length);
    }

    private static double SumError(double x, double y)
    {
        (double large, double small) = Math.Abs(x) >= Math.Abs(y) ? (x, y) : (y, x);
        double sum = large + small;
        return sum - large - small;
    }
}
