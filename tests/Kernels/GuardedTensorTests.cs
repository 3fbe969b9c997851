using Engine.Tensors;
using Xunit.Sdk;

namespace Engine.Kernels.Tests;

/// <summary>The test helper catches what it is there to catch.</summary>
public sealed class GuardedTensorTests
{
    [Theory]
    [InlineData(-1)]
    [InlineData(5)]
    [InlineData(14)]
    public void A_write_outside_is_caught(int element)
    {
        using GuardedTensor tensor = GuardedTensor.Empty([2, 5], DType.F32, rowGap: 3);
        tensor.AssertGuards();
        tensor.Tensor.Device.CopyFromHost([0, 0, 0, 0], tensor.Tensor.Pointer + (element * sizeof(float)));
        Assert.ThrowsAny<XunitException>(tensor.AssertGuards);
    }

    [Fact]
    public void Elements_start_as_poison_and_are_not_aligned()
    {
        foreach (DType dtype in new[] { DType.F32, DType.F64, DType.BF16, DType.F16 })
        {
            using GuardedTensor tensor = GuardedTensor.Empty([3], dtype);
            Assert.All(tensor.ToDoubles(), value => Assert.True(double.IsNaN(value)));
            Assert.Equal(GuardedTensor.IsAligned, tensor.Tensor.Pointer % 16 == 0);
        }
    }
}
