using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class CopyTests
{
    [Theory]
    [MemberData(nameof(KernelAssert.FloatTypes), MemberType = typeof(KernelAssert))]
    public void Permuted_and_sliced_tensors_arrive_in_order(DType dtype)
    {
        using GuardedTensor x = new RandomTensors(1).Normal([3, 5, 4, 7], dtype);
        using Tensor permuted = x.Tensor.Transpose(1, 2);
        using Tensor slice = permuted.Slice(^1, 2, 4);
        foreach (int gap in new[] { 0, 3 })
        {
            using GuardedTensor y = GuardedTensor.Empty([3, 4, 5, 4], dtype, gap);
            Copy.Run(slice, y);
            y.AssertGuards();
            double[] from = x.ToDoubles();
            double[] to = y.ToDoubles();
            for (int i = 0; i < to.Length; i++)
            {
                (int b, int h, int t, int d) = (i / 80, i / 20 % 4, i / 4 % 5, i % 4);
                Assert.Equal(from[(((((b * 5) + t) * 4) + h) * 7) + 2 + d], to[i]);
            }
        }
    }

    [Fact]
    public void A_transpose_into_a_column_slice_leaves_the_other_columns()
    {
        using GuardedTensor x = new RandomTensors(2).Normal([6, 50], DType.F32);
        using GuardedTensor y = new RandomTensors(3).Normal([50, 9], DType.F32);
        double[] expected = y.ToDoubles();
        double[] from = x.ToDoubles();
        using (Tensor target = y.Tensor.Slice(1, 2, 6))
        using (Tensor transposed = x.Tensor.Transpose(0, 1))
        {
            Copy.Run(transposed, target);
        }

        for (int r = 0; r < 50; r++)
        {
            for (int c = 0; c < 6; c++)
            {
                expected[(r * 9) + 2 + c] = from[(c * 50) + r];
            }
        }

        Assert.Equal(expected, y.ToDoubles());
        y.AssertGuards();
    }

    [Fact]
    public void Bytes_longs_scalars_and_empty_tensors_are_copied()
    {
        using Tensor bytes = Tensor.From<byte>([1, 2, 3, 4, 5, 6], [2, 3], TestDevice.Current);
        using Tensor longs = Tensor.From<long>([1, 2, 3, 4, 5, 6], [2, 3], TestDevice.Current);
        using Tensor turnedBytes = bytes.Transpose(0, 1);
        using Tensor turnedLongs = longs.Transpose(0, 1);
        using Tensor bytesOut = Tensor.Empty([3, 2], DType.U8, TestDevice.Current);
        using Tensor longsOut = Tensor.Empty([3, 2], DType.I64, TestDevice.Current);
        Copy.Run(turnedBytes, bytesOut);
        Copy.Run(turnedLongs, longsOut);
        Assert.Equal([1, 4, 2, 5, 3, 6], bytesOut.ToArray<byte>());
        Assert.Equal([1L, 4, 2, 5, 3, 6], longsOut.ToArray<long>());
        using GuardedTensor scalar = GuardedTensor.From([2.5], [], DType.F32);
        using GuardedTensor scalarOut = GuardedTensor.Empty([], DType.F32);
        using GuardedTensor empty = GuardedTensor.Empty([0, 4], DType.F32, rowGap: 1);
        Copy.Run(scalar, scalarOut);
        Copy.Run(empty, empty);
        Assert.Equal([2.5], scalarOut.ToDoubles());
    }

    [Fact]
    public void Threads_do_not_change_the_bits() => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        using GuardedTensor x = new RandomTensors(4).Normal([301, 203], DType.BF16);
        using Tensor transposed = x.Tensor.Transpose(0, 1);
        GuardedTensor y = GuardedTensor.Empty([203, 301], DType.BF16);
        Copy.Run(transposed, y);
        return [y];
    });

    [Fact]
    public void Another_shape_is_refused()
    {
        using GuardedTensor x = GuardedTensor.Empty([2, 3], DType.F32);
        using GuardedTensor y = GuardedTensor.Empty([3, 2], DType.F32);
        Assert.Contains("y has to be like x, f32[2, 3]; it is f32[3, 2]", Assert.Throws<ArgumentException>(() => Copy.Run(x, y)).Message);
    }
}
