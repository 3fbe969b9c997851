using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class RopeTests
{
    private const int Positions = 23;

    public static TheoryData<DType, int, int> Cases
    {
        get
        {
            var data = new TheoryData<DType, int, int>();
            foreach (DType dtype in TestDevice.FloatTypes)
            {
                foreach ((int batch, int width) in new[] { (0, 8), (1, 2), (2, 6), (3, 34), (1, 64), (2, 128) })
                {
                    data.Add(dtype, batch, width);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Pairs_are_rotated_and_the_inverse_turns_back(DType dtype, int batch, int width)
    {
        foreach (bool inverse in new[] { false, true })
        {
            var random = new RandomTensors(width);
            using GuardedTensor x = random.Normal([batch, 5, 3, width], dtype);
            (GuardedTensor cos, GuardedTensor sin) = Tables(width, dtype);
            using GuardedTensor positions = random.Integers([batch, 5], 0, Positions);
            using GuardedTensor y = GuardedTensor.Empty([batch, 5, 3, width], dtype, rowGap: 5);
            Rope.Apply(x, cos, sin, positions, inverse, y);
            (double[] exact, double[] magnitude) = Exact(x, cos, sin, positions, inverse);
            var op = new RopeCase(batch, 5, 3, width, dtype);
            KernelAssert.Close(op, exact, y, magnitude);
            Rope.Apply(x, cos, sin, positions, inverse, x);
            Assert.Equal(y.ToBytes(), x.ToBytes());
            x.AssertGuards();
            cos.Dispose();
            sin.Dispose();
        }
    }

    [Fact]
    public void Heads_before_tokens_in_memory_are_rotated_the_same()
    {
        var random = new RandomTensors(1);
        using GuardedTensor x = random.Normal([2, 3, 7, 8], DType.F32);
        using GuardedTensor positions = random.Integers([2, 7], 0, Positions);
        (GuardedTensor cos, GuardedTensor sin) = Tables(8, DType.F32);
        using Tensor view = x.Tensor.Transpose(1, 2);
        using GuardedTensor contiguous = GuardedTensor.Empty([2, 7, 3, 8], DType.F32);
        using GuardedTensor expected = GuardedTensor.Empty([2, 7, 3, 8], DType.F32);
        Copy.Run(view, contiguous);
        Rope.Apply(contiguous, cos, sin, positions, false, expected);
        Rope.Apply(view, cos, sin, positions, false, view);
        Copy.Run(view, contiguous);
        Assert.Equal(expected.ToBytes(), contiguous.ToBytes());
        x.AssertGuards();
        cos.Dispose();
        sin.Dispose();
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void Threads_do_not_change_the_bits(DType dtype) => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        var random = new RandomTensors(2);
        using GuardedTensor x = random.Normal([3, 101, 4, 32], dtype);
        using GuardedTensor positions = random.Integers([3, 101], 0, Positions);
        (GuardedTensor cos, GuardedTensor sin) = Tables(32, dtype);
        GuardedTensor y = GuardedTensor.Empty([3, 101, 4, 32], dtype);
        Rope.Apply(x, cos, sin, positions, false, y);
        cos.Dispose();
        sin.Dispose();
        return [y];
    });

    // A GPU does not report what it finds in its operands.
    [Theory]
    [Trait("Device", "Cpu")]
    [InlineData(-1)]
    [InlineData(Positions)]
    public void A_position_outside_the_table_is_named(int position)
    {
        using GuardedTensor x = GuardedTensor.Empty([1, 1, 1, 4], DType.F32);
        using GuardedTensor positions = GuardedTensor.From([position], [1, 1]);
        (GuardedTensor cos, GuardedTensor sin) = Tables(4, DType.F32);
        var error = Assert.Throws<ArgumentOutOfRangeException>(() => Rope.Apply(x, cos, sin, positions, false, x));
        Assert.Contains($"position {position} is outside the table of {Positions} positions", error.Message);
        cos.Dispose();
        sin.Dispose();
    }

    private static (GuardedTensor Cos, GuardedTensor Sin) Tables(int width, DType dtype)
    {
        int half = width / 2;
        var angles = new double[Positions * half];
        for (int i = 0; i < angles.Length; i++)
        {
            angles[i] = i / half * Math.Pow(10000, -2.0 * (i % half) / width);
        }

        DType table = dtype == DType.F64 ? DType.F64 : DType.F32;
        return (
            GuardedTensor.From(Reference.Map(angles, Math.Cos), [Positions, half], table),
            GuardedTensor.From(Reference.Map(angles, Math.Sin), [Positions, half], table));
    }

    private static (double[] Exact, double[] Magnitude) Exact(
        GuardedTensor x, GuardedTensor cos, GuardedTensor sin, GuardedTensor positions, bool inverse)
    {
        double[] xs = x.ToDoubles();
        double[] c = cos.ToDoubles();
        double[] s = sin.ToDoubles();
        double[] at = positions.ToDoubles();
        int width = x.Tensor.Shape[3];
        int half = width / 2;
        var exact = new double[xs.Length];
        var magnitude = new double[xs.Length];
        for (int i = 0; i < xs.Length; i++)
        {
            int d = i % width;
            bool upper = d >= half;
            int angle = ((int)at[i / width / 3] * half) + (d % half);
            double other = xs[upper ? i - half : i + half] * (upper != inverse ? 1 : -1);
            exact[i] = (xs[i] * c[angle]) + (other * s[angle]);
            magnitude[i] = Math.Abs(xs[i] * c[angle]) + Math.Abs(other * s[angle]);
        }

        return (exact, magnitude);
    }
}
