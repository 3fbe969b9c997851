using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class SiluTests
{
    public static TheoryData<DType, int> Cases => KernelAssert.FloatTypesWith(0, 1, 7, 33, 2500, 4096);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Forward_and_backward_are_within_their_bounds(DType dtype, int n)
    {
        var random = new RandomTensors(1);
        using GuardedTensor x = random.Normal([n], dtype, deviation: 4);
        using GuardedTensor dy = random.Normal([n], dtype);
        using GuardedTensor y = GuardedTensor.Empty([n], dtype);
        using GuardedTensor dx = GuardedTensor.Empty([n], dtype);
        Silu.Forward(x, y);
        Silu.Backward(dy, x, dx);
        double[] xs = x.ToDoubles();
        double[] dys = dy.ToDoubles();
        KernelAssert.Close(new SiluCase(n, dtype, Backward: false), Reference.Map(xs, v => v * Reference.Sigmoid(v)), y);
        KernelAssert.Close(
            new SiluCase(n, dtype, Backward: true),
            Reference.Map(dys, xs, (g, v) => g * Derivative(v)),
            dx,
            Reference.Map(dys, xs, (g, v) => Math.Abs(g) * Reference.Sigmoid(v) * (1 + (Math.Abs(v) * Reference.Sigmoid(-v)))));
    }

    [Fact]
    public void Large_arguments_saturate()
    {
        using GuardedTensor x = GuardedTensor.From([-1000, -110, 110, 1000], [4], DType.F32);
        using GuardedTensor dy = GuardedTensor.From([1, 1, 1, 1], [4], DType.F32);
        using GuardedTensor y = GuardedTensor.Empty([4], DType.F32);
        using GuardedTensor dx = GuardedTensor.Empty([4], DType.F32);
        Silu.Forward(x, y);
        Silu.Backward(dy, x, dx);
        Assert.Equal([0, 0, 110, 1000], y.ToDoubles());
        Assert.Equal([0, 0, 1, 1], dx.ToDoubles());
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.F16)]
    public void Threads_do_not_change_the_bits(DType dtype) => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        var random = new RandomTensors(2);
        using GuardedTensor x = random.Normal([70_001], dtype);
        using GuardedTensor dy = random.Normal([70_001], dtype);
        GuardedTensor dx = GuardedTensor.Empty([70_001], dtype);
        Silu.Backward(dy, x, dx);
        return [dx];
    });

    [Fact]
    public void A_tensor_whose_rows_are_not_runs_of_elements_is_refused()
    {
        using GuardedTensor x = GuardedTensor.Empty([2, 3], DType.F32);
        using GuardedTensor y = GuardedTensor.Empty([3, 2], DType.F32);
        using Tensor permuted = y.Tensor.Transpose(0, 1);
        Assert.Contains("y has to be contiguous", Assert.Throws<ArgumentException>(() => Silu.Forward(x, permuted)).Message);
    }

    private static double Derivative(double x)
    {
        double s = Reference.Sigmoid(x);
        return s * (1 + (x * Reference.Sigmoid(-x)));
    }
}
