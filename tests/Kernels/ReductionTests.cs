using Engine.Tensors;

namespace Engine.Kernels.Tests;

public sealed class ReductionTests
{
    [Theory]
    [InlineData(DType.F32, 0)]
    [InlineData(DType.F32, 1)]
    [InlineData(DType.F32, 1001)]
    [DoubleData(DType.F64, 1001)]
    public void Sum_is_accumulated_in_double(DType dtype, int count)
    {
        using GuardedTensor x = new RandomTensors(5).Normal([count], dtype);
        using GuardedTensor y = GuardedTensor.Empty([1], dtype);
        Reduction.Sum(x, 0.25f, y);
        double[] values = x.ToDoubles();

        // The sum is a chain of count additions in double, then one rounding to storage.
        var bound = new ErrorBound(
            ErrorBound.UnitRoundoff(dtype), (count + 1) * ErrorBound.UnitRoundoff(DType.F64), ErrorBound.SubnormalRoundoff(dtype), "double additions");
        KernelAssert.Close(bound, "Reduction.Sum", [0.25 * values.Sum()], y, [0.25 * values.Sum(Math.Abs)]);
    }

    [Fact]
    public void Half_types_are_refused()
    {
        using Tensor x = Tensor.Zeros([3], DType.BF16, TestDevice.Current);
        using Tensor y = Tensor.Zeros([1], DType.BF16, TestDevice.Current);
        Assert.Throws<ArgumentException>(() => Reduction.Sum(x, 1, y));
    }
}
