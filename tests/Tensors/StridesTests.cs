namespace Engine.Tensors.Tests;

[Trait("Device", "Cpu")]
public class StridesTests
{
    [Fact]
    public void Contiguous_strides_are_row_major()
    {
        var strides = Strides.Contiguous([2, 3, 4]);
        Assert.Equal(3, strides.Rank);
        Assert.Equal(12, strides[0]);
        Assert.Equal(4, strides[1]);
        Assert.Equal(1, strides[^1]);
        Assert.Equal(0, Strides.Contiguous([]).Rank);
    }

    [Fact]
    public void Strides_reach_beyond_32_bits() =>
        Assert.Equal((1L << 31) * 5, Strides.Contiguous([2, 5, 1 << 30, 2])[0]);

    [Fact]
    public void Rank_and_index_are_limited()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new Strides(1, 1, 1, 1, 1, 1, 1));
        var strides = new Strides(3, 1);
        Assert.Throws<ArgumentOutOfRangeException>(() => strides[2]);
        Assert.Throws<ArgumentOutOfRangeException>(() => strides[^3]);
    }

    public static TheoryData<int[], long[], bool> Layouts => new()
    {
        { [], [], true },
        { [2, 3], [3, 1], true },
        { [2, 3], [1, 2], false },
        { [2, 3], [4, 1], false },
        { [2, 3], [6, 2], false },
        { [2, 3], [0, 1], false },
        { [1, 3], [99, 1], true },
        { [3, 1], [1, 99], true },
        { [1, 1], [7, 7], true },
        { [2, 1, 3], [3, 99, 1], true },
        { [2, 2, 3], [6, 4, 1], false },
        { [4, 0], [3, 1], true },
        { [0, 3], [1, 7], true },
    };

    [Theory]
    [MemberData(nameof(Layouts))]
    public void Contiguity_ignores_extents_of_one_and_empty_tensors(int[] extents, long[] strides, bool contiguous)
    {
        var device = new CpuDevice();
        using (var tensor = new Tensor(device.Allocate(400), DType.F32, new Shape(extents), new Strides(strides)))
        {
            Assert.Equal(contiguous, tensor.IsContiguous);
        }

        Assert.Equal(0, device.LiveStorages);
        device.Trim();
    }
}
