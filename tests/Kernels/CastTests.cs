using System.Runtime.InteropServices;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class CastTests
{
    public static TheoryData<DType, DType> Pairs
    {
        get
        {
            var data = new TheoryData<DType, DType>();
            foreach (DType from in TestDevice.FloatTypes)
            {
                foreach (DType to in TestDevice.FloatTypes)
                {
                    data.Add(from, to);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Pairs))]
    public void Random_values_round_to_nearest(DType from, DType to)
    {
        foreach (int n in new[] { 0, 1, 31, 1100 })
        {
            using GuardedTensor x = new RandomTensors(n).Normal([n], from, deviation: 3);
            using GuardedTensor y = GuardedTensor.Empty([n], to);
            Cast.Run(x, y);
            KernelAssert.Close(new CastCase(n, from, to), x.ToDoubles(), y);
        }
    }

    [Fact]
    public void Every_bf16_and_f16_survives_the_way_up_and_back()
    {
        ushort[] patterns = [.. Enumerable.Range(0, 65536).Select(i => (ushort)i)];
        foreach (DType narrow in new[] { DType.BF16, DType.F16 })
        {
            foreach (DType wide in new[] { DType.F32, DType.F64 }.Where(TestDevice.Supports))
            {
                using GuardedTensor x = GuardedTensor.FromBytes(MemoryMarshal.AsBytes(patterns.AsSpan()), [65536], narrow);
                using GuardedTensor up = GuardedTensor.Empty([65536], wide);
                using GuardedTensor back = GuardedTensor.Empty([65536], narrow);
                Cast.Run(x, up);
                Cast.Run(up, back);
                double[] values = x.ToDoubles();
                double[] returned = back.ToDoubles();
                ushort[] bits = MemoryMarshal.Cast<byte, ushort>(back.ToBytes()).ToArray();
                Assert.Equal(values, up.ToDoubles());
                for (int i = 0; i < 65536; i++)
                {
                    // Bits, so that −0 counts; the bits of NaN are free.
                    Assert.True(double.IsNaN(values[i]) ? double.IsNaN(returned[i]) : bits[i] == i);
                }
            }
        }
    }

    [Theory]
    [InlineData(DType.F32)]
    [DoubleData(DType.F64)]
    public void Ties_go_to_even_and_their_neighbours_to_the_nearer_side(DType from)
    {
        // bf16 has 8 significant bits, f16 11: 1 + 2^-8 and 1 + 2^-11 lie halfway.
        CheckOne(from, DType.BF16, 1 + double.ScaleB(1, -8), 1);
        CheckOne(from, DType.BF16, 1 + double.ScaleB(3, -8), 1 + double.ScaleB(4, -8));
        CheckOne(from, DType.BF16, 1 + double.ScaleB(1, -8) + double.ScaleB(1, -23), 1 + double.ScaleB(2, -8));
        CheckOne(from, DType.BF16, -(1 + double.ScaleB(1, -8) + double.ScaleB(1, -23)), -(1 + double.ScaleB(2, -8)));
        CheckOne(from, DType.F16, 1 + double.ScaleB(1, -11), 1);
        CheckOne(from, DType.F16, 1 + double.ScaleB(3, -11), 1 + double.ScaleB(4, -11));
        CheckOne(from, DType.F16, 65520, double.PositiveInfinity);
        CheckOne(from, DType.F16, 65519, 65504);
        CheckOne(from, DType.F16, double.ScaleB(1, -24), double.ScaleB(1, -24));
        CheckOne(from, DType.F16, double.ScaleB(1, -25), 0);
        CheckOne(from, DType.BF16, float.MaxValue, double.PositiveInfinity);
    }

    [Fact]
    [Trait("Device", "Cpu")]
    public void A_double_is_rounded_once()
    {
        // Just above a tie of bf16 and f16, but not in float: rounding to float first would fall back on the tie.
        CheckOne(DType.F64, DType.BF16, 1 + double.ScaleB(1, -8) + double.ScaleB(1, -40), 1 + double.ScaleB(2, -8));
        CheckOne(DType.F64, DType.BF16, 1 + double.ScaleB(3, -8) - double.ScaleB(1, -40), 1 + double.ScaleB(2, -8));
        CheckOne(DType.F64, DType.F16, 1 + double.ScaleB(1, -11) + double.ScaleB(1, -40), 1 + double.ScaleB(2, -11));
        CheckOne(DType.F64, DType.BF16, -1e300, double.NegativeInfinity);
        CheckOne(DType.F64, DType.F32, 1e-300, 0);
    }

    private static void CheckOne(DType from, DType to, double value, double expected)
    {
        // Long enough for the vector path and its rest.
        double[] values = new double[37];
        values.AsSpan().Fill(value);
        using GuardedTensor x = GuardedTensor.From(values, [37], from);
        using GuardedTensor y = GuardedTensor.Empty([37], to);
        Cast.Run(x, y);
        Assert.All(y.ToDoubles(), actual => Assert.Equal(expected, actual));
        y.AssertGuards();
    }
}
