using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class SwiGluTests
{
    public static TheoryData<DType, int> Cases => KernelAssert.FloatTypesWith(0, 1, 9, 2051, 4096);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Forward_and_backward_are_within_their_bounds(DType dtype, int n)
    {
        var random = new RandomTensors(1);
        using GuardedTensor gate = random.Normal([n], dtype, deviation: 3);
        using GuardedTensor up = random.Normal([n], dtype);
        using GuardedTensor dy = random.Normal([n], dtype);
        using GuardedTensor y = GuardedTensor.Empty([n], dtype);
        using GuardedTensor dGate = GuardedTensor.Empty([n], dtype);
        using GuardedTensor dUp = GuardedTensor.Empty([n], dtype);
        SwiGlu.Forward(gate, up, y);
        SwiGlu.Backward(dy, gate, up, dGate, dUp);
        double[] g = gate.ToDoubles();
        double[] u = up.ToDoubles();
        double[] d = dy.ToDoubles();
        var backward = new SwiGluCase(n, dtype, Backward: true);
        KernelAssert.Close(new SwiGluCase(n, dtype, Backward: false), Reference.Map(g, u, (a, b) => a * Reference.Sigmoid(a) * b), y);
        KernelAssert.Close(backward, Reference.Map(d, g, (a, b) => a * b * Reference.Sigmoid(b)), dUp);
        KernelAssert.Close(
            backward,
            Reference.Map(d, g, u, (a, b, c) => a * c * Reference.Sigmoid(b) * (1 + (b * Reference.Sigmoid(-b)))),
            dGate,
            Reference.Map(d, g, u, (a, b, c) => Math.Abs(a * c) * Reference.Sigmoid(b) * (1 + (Math.Abs(b) * Reference.Sigmoid(-b)))));
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void Threads_do_not_change_the_bits_and_outputs_may_be_inputs(DType dtype) => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        var random = new RandomTensors(2);
        GuardedTensor gate = random.Normal([40_003], dtype);
        GuardedTensor up = random.Normal([40_003], dtype);
        using GuardedTensor dy = random.Normal([40_003], dtype);
        GuardedTensor dGate = GuardedTensor.Empty([40_003], dtype);
        GuardedTensor dUp = GuardedTensor.Empty([40_003], dtype);
        SwiGlu.Backward(dy, gate, up, dGate, dUp);
        SwiGlu.Backward(dy, gate, up, gate, up);
        Assert.Equal(dGate.ToBytes(), gate.ToBytes());
        Assert.Equal(dUp.ToBytes(), up.ToBytes());
        return [dGate, dUp, gate, up];
    });
}
