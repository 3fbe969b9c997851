namespace Engine.Tensors.Tests;

[Trait("Device", "Cpu")]
public class BFloat16Tests
{
    // Largest finite bfloat16, (2 − 2⁻⁷) · 2¹²⁷, and half the distance to what would be the next one, 2¹²⁸.
    private static readonly double s_max = (2 - Math.ScaleB(1, -7)) * Math.ScaleB(1, 127);
    private static readonly double s_overflow = s_max + Math.ScaleB(1, 119);

    [Fact]
    public void Every_pattern_widens_exactly_and_comes_back()
    {
        for (int bits = 0; bits <= ushort.MaxValue; bits++)
        {
            var value = BFloat16.FromBits((ushort)bits);
            Assert.Equal(bits, value.Bits);
            float wide = value;
            if (IsNaN(bits))
            {
                Assert.True(float.IsNaN(wide));
                Assert.Equal(bits >> 15, (int)(BitConverter.SingleToUInt32Bits(wide) >> 31));

                // The quiet bit may be set; sign and payload stay.
                Assert.Equal(bits | 0x0040, ((BFloat16)wide).Bits);
                continue;
            }

            double expected = Value(bits);
            if (expected != wide || double.IsNegative(expected) != float.IsNegative(wide) || ((BFloat16)wide).Bits != bits)
            {
                Assert.Fail($"0x{bits:x4}: {wide} for {expected}, back 0x{((BFloat16)wide).Bits:x4}");
            }
        }
    }

    [Fact]
    public void Random_floats_round_as_the_reference_does()
    {
        var random = new Random(1);
        for (int i = 0; i < 1_000_000; i++)
        {
            uint bits = (uint)random.NextInt64(1L << 32);
            CheckRounding(BitConverter.UInt32BitsToSingle(bits));
        }
    }

    [Fact]
    public void Halfway_cases_and_their_neighbours_round_as_the_reference_does()
    {
        for (uint upper = 0; upper <= ushort.MaxValue; upper++)
        {
            foreach (uint lower in new uint[] { 0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF })
            {
                CheckRounding(BitConverter.UInt32BitsToSingle((upper << 16) | lower));
            }
        }
    }

    [Theory]
    [InlineData(0x3F808000u, 0x3F80)] // a tie below an even fraction goes down
    [InlineData(0x3F818000u, 0x3F82)] // a tie below an odd one goes up
    [InlineData(0x3F808001u, 0x3F81)]
    [InlineData(0x3F807FFFu, 0x3F80)]
    [InlineData(0x3FFF8000u, 0x4000)] // the carry enters the exponent
    [InlineData(0x007F8000u, 0x0080)] // the largest subnormal rounds up to a normal number
    [InlineData(0x00000001u, 0x0000)] // the smallest float underflows
    [InlineData(0x80000001u, 0x8000)] // and keeps its sign
    [InlineData(0x00008001u, 0x0001)]
    [InlineData(0x7F7F7FFFu, 0x7F7F)]
    [InlineData(0x7F7F8000u, 0x7F80)] // overflow to infinity
    [InlineData(0xFF7FFFFFu, 0xFF80)]
    [InlineData(0x7F800000u, 0x7F80)]
    [InlineData(0xFF800000u, 0xFF80)]
    [InlineData(0x7F800001u, 0x7FC0)] // a NaN whose payload lies in the dropped half does not become infinity
    [InlineData(0xFFFFFFFFu, 0xFFFF)]
    [InlineData(0x80000000u, 0x8000)]
    public void Known_bits(uint single, int expected)
    {
        Assert.Equal(expected, ((BFloat16)BitConverter.UInt32BitsToSingle(single)).Bits);
        Assert.Equal(expected, BFloat16.FromSingle(BitConverter.UInt32BitsToSingle(single)).Bits);
    }

    [Fact]
    public void Equality_is_of_bits()
    {
        var zero = BFloat16.FromBits(0);
        var minusZero = BFloat16.FromBits(0x8000);
        var nan = BFloat16.FromBits(0x7FC0);
        Assert.True(zero != minusZero);
        Assert.False(zero == minusZero);
        Assert.True(nan == BFloat16.FromBits(0x7FC0));
        Assert.True(nan.Equals((object)BFloat16.FromBits(0x7FC0)));
        Assert.False(nan.Equals(0x7FC0));
        Assert.Equal(nan.GetHashCode(), BFloat16.FromBits(0x7FC0).GetHashCode());
    }

    [Fact]
    public void ToString_and_ToSingle_give_the_value()
    {
        Assert.Equal("1.5", ((BFloat16)1.5f).ToString());
        Assert.Equal(-2f, ((BFloat16)(-2f)).ToSingle());
    }

    private static bool IsNaN(int bits) => (bits & 0x7F80) == 0x7F80 && (bits & 0x7F) != 0;

    // IEEE 754-2019, 3.4: the value of a pattern with 8 exponent and 7 fraction bits, bias 127.
    private static double Value(int bits)
    {
        int exponent = (bits >> 7) & 0xFF;
        int fraction = bits & 0x7F;
        double magnitude = exponent switch
        {
            0xFF => double.PositiveInfinity,
            0 => Math.ScaleB(fraction, -126 - 7),
            _ => Math.ScaleB(128 + fraction, exponent - 127 - 7),
        };
        return bits >> 15 == 0 ? magnitude : -magnitude;
    }

    // Rounds in double, by arithmetic: scale so that one unit in the last place is 1, round half to even, scale back.
    // Powers of two scale exactly and the quotient of a float has at most 24 significant bits, so only Math.Round rounds.
    private static double Round(float value)
    {
        double magnitude = Math.Abs((double)value);
        if (magnitude >= s_overflow)
        {
            return double.CopySign(double.PositiveInfinity, value);
        }

        int exponent = magnitude == 0 ? -126 : Math.Max(Math.ILogB(magnitude), -126);
        double rounded = Math.ScaleB(Math.Round(Math.ScaleB(magnitude, 7 - exponent), MidpointRounding.ToEven), exponent - 7);
        return double.CopySign(rounded, value);
    }

    private static void CheckRounding(float value)
    {
        var rounded = (BFloat16)value;
        if (float.IsNaN(value))
        {
            bool signKept = (rounded.Bits >> 15) == (int)(BitConverter.SingleToUInt32Bits(value) >> 31);
            Assert.True(IsNaN(rounded.Bits) && (rounded.Bits & 0x40) != 0 && signKept);
            return;
        }

        double expected = Round(value);
        double actual = Value(rounded.Bits);
        if (actual != expected || double.IsNegative(actual) != double.IsNegative(expected))
        {
            Assert.Fail($"{value:r} (0x{BitConverter.SingleToUInt32Bits(value):x8}) became {actual:r}, not {expected:r}");
        }
    }
}
