using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels.Tests.Cuda;

/// <summary>Which kernels S takes on a GPU; that they are right is shown in <see cref="LowRankDownTests"/>.</summary>
[Collection(nameof(CudaCollection))]
public sealed class LowRankKernelsTests
{
    private readonly CudaDevice _device = RequireCuda.Device();

    /// <summary>A kernel of our own for narrow borders, short rows and more than a few of them; else the library.</summary>
    [Theory]
    [InlineData(17, 264, 8, "lowrank_down_m16_r8_bf16")]
    [InlineData(4224, 264, 12, "lowrank_down_m16_r16_bf16")]
    [InlineData(4225, 264, 32, "lowrank_down_m32_r32_bf16")]
    [InlineData(16, 264, 8, null)]
    [InlineData(40, 264, 40, null)]
    [InlineData(40, 4104, 8, null)]
    public void S_takes_a_kernel_where_the_library_is_slower(int rows, int inputs, int rank, string? kernel)
    {
        using Tensor frozen = Tensor.Zeros([8, inputs], DType.BF16, _device);
        using BorderedWeight weight = BorderedWeight.Create([frozen], [rank], transposed: false);
        Assert.True(weight.TryAssign([rank], [1]));
        using Tensor zeros = Tensor.Zeros([rows, inputs], DType.BF16, _device);
        using Tensor x = Tensor.EmptyBordered([rows, inputs], weight.Border, DType.BF16, _device);
        Copy.Run(zeros, x);
        using Tensor s = x.BorderColumns(weight.Width);
        using var profiler = new CudaProfiler(_device);
        LowRank.Down(x, weight, s);
        string[] launched = [.. profiler.Collect().Select(static launch => launch.Kernel)];
        if (kernel is null)
        {
            Assert.NotEmpty(launched);
            Assert.DoesNotContain(launched, static name => name.StartsWith("lowrank", StringComparison.Ordinal));
        }
        else
        {
            Assert.Equal([kernel], launched);
        }
    }
}
