namespace Engine.Tensors.Tests;

[Trait("Device", "Cpu")]
public class DTypeTests
{
    [Theory]
    [InlineData(DType.F32, 4, true, "f32")]
    [InlineData(DType.F64, 8, true, "f64")]
    [InlineData(DType.BF16, 2, true, "bf16")]
    [InlineData(DType.F16, 2, true, "f16")]
    [InlineData(DType.I32, 4, false, "i32")]
    [InlineData(DType.I64, 8, false, "i64")]
    [InlineData(DType.U8, 1, false, "u8")]
    public void Size_kind_and_name(DType dtype, int size, bool isFloat, string name)
    {
        Assert.Equal(size, dtype.Size());
        Assert.Equal(isFloat, dtype.IsFloat());
        Assert.Equal(name, dtype.Name());
    }

    [Fact]
    public void Every_dtype_is_covered() => Assert.Equal(7, Enum.GetValues<DType>().Length);

    [Fact]
    public void Element_types_map_to_dtypes()
    {
        Assert.Equal(DType.F32, DTypes.Of<float>());
        Assert.Equal(DType.F64, DTypes.Of<double>());
        Assert.Equal(DType.BF16, DTypes.Of<BFloat16>());
        Assert.Equal(DType.F16, DTypes.Of<Half>());
        Assert.Equal(DType.I32, DTypes.Of<int>());
        Assert.Equal(DType.I64, DTypes.Of<long>());
        Assert.Equal(DType.U8, DTypes.Of<byte>());
        Assert.Contains("Int16", Assert.Throws<ArgumentException>(() => DTypes.Of<short>()).Message);
    }

    [Fact]
    public void An_undefined_dtype_is_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => ((DType)99).Size());
        Assert.Throws<ArgumentOutOfRangeException>(() => ((DType)99).Name());
        Assert.False(((DType)99).IsFloat());
    }

    [Fact]
    public void A_round_trip_keeps_the_elements_of_each_dtype()
    {
        RoundTrip<float>(DType.F32, [0, -0f, 1.5f, float.NaN, float.NegativeInfinity, float.Epsilon]);
        RoundTrip<double>(DType.F64, [0, -0d, 1e300, double.NaN, double.PositiveInfinity, double.Epsilon]);
        RoundTrip<BFloat16>(DType.BF16, [BFloat16.FromBits(0), BFloat16.FromBits(0x8000), (BFloat16)3.5f, BFloat16.FromBits(0x7FC1), BFloat16.FromBits(1), BFloat16.FromBits(0xFF80)]);
        RoundTrip<Half>(DType.F16, [Half.Zero, Half.NegativeZero, (Half)1.5, Half.NaN, Half.MaxValue, Half.Epsilon]);
        RoundTrip<int>(DType.I32, [0, -1, int.MaxValue, int.MinValue, -100, 7]);
        RoundTrip<long>(DType.I64, [0, -1, long.MaxValue, long.MinValue, 1L << 40, 7]);
        RoundTrip<byte>(DType.U8, [0, 1, 127, 128, 254, 255]);
    }

    private static void RoundTrip<T>(DType dtype, T[] elements)
        where T : unmanaged
    {
        var device = new CpuDevice();
        using (Tensor tensor = Tensor.From(elements, [2, 3], device))
        {
            Assert.Equal(dtype, tensor.DType);
            Assert.Equal(6 * dtype.Size(), tensor.ByteLength);
            Assert.Equal(Bytes<T>(elements), Bytes<T>(tensor.ToArray<T>()));
            Assert.Equal(Bytes<T>(elements), tensor.HostBytes().ToArray());
            Assert.Equal($"{dtype.Name()}[2, 3] on cpu", tensor.ToString());

            using Tensor transposed = tensor.Transpose(0, 1);
            T[] e = elements;
            Assert.Equal(Bytes<T>([e[0], e[3], e[1], e[4], e[2], e[5]]), Bytes<T>(transposed.ToArray<T>()));
        }

        Assert.Equal(0, device.LiveStorages);
        device.Trim();
    }

    // Bytes, not values: equality of values confuses the two zeros and the kinds of NaN.
    private static byte[] Bytes<T>(ReadOnlySpan<T> elements)
        where T : unmanaged => System.Runtime.InteropServices.MemoryMarshal.AsBytes(elements).ToArray();
}
