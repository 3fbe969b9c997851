using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class GeluLinearTests
{
    public static TheoryData<DType, bool, bool, int, int, int> Cases
    {
        get
        {
            var data = new TheoryData<DType, bool, bool, int, int, int>();
            foreach (DType dtype in TestDevice.FloatTypes)
            {
                foreach (bool tanh in new[] { false, true })
                {
                    foreach (bool transposed in new[] { false, true })
                    {
                        data.Add(dtype, tanh, transposed, 5, 7, 3);
                        data.Add(dtype, tanh, transposed, 64, 128, 72);
                        data.Add(dtype, tanh, transposed, 0, 8, 8);
                    }
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Backward_is_within_its_bound(DType dtype, bool tanh, bool transposed, int rows, int inputs, int outputs)
    {
        var random = new RandomTensors(1);
        using GuardedTensor x = random.Normal([rows, inputs], dtype, deviation: 2);
        using GuardedTensor dy = random.Normal([rows, outputs], dtype);
        using GuardedTensor w = random.Normal(transposed ? [inputs, outputs] : [outputs, inputs], dtype);
        using GuardedTensor dx = GuardedTensor.Empty([rows, inputs], dtype);
        GeluLinear.Backward(dy, x, tanh, w, transposed, dx);
        (double[] xs, double[] dys, double[] ws) = (x.ToDoubles(), dy.ToDoubles(), w.ToDoubles());
        var exact = new double[rows * inputs];
        var sizes = new double[rows * inputs];
        for (int i = 0; i < exact.Length; i++)
        {
            (int r, int c) = (i / inputs, i % inputs);
            double sum = 0;
            for (int n = 0; n < outputs; n++)
            {
                double product = dys[(r * outputs) + n] * ws[transposed ? (c * outputs) + n : (n * inputs) + c];
                sum += product;
                sizes[i] += Math.Abs(product);
            }

            exact[i] = sum * GeluTests.Derivative(xs[i], tanh);
        }

        KernelAssert.Close(new GeluLinearCase(rows, inputs, outputs, dtype), exact, dx, sizes);
    }

    [Theory]
    [MemberData(nameof(KernelAssert.FloatTypes), MemberType = typeof(KernelAssert))]
    public void Forward_has_the_bits_of_the_two_ops(DType dtype)
    {
        var random = new RandomTensors(2);
        using GuardedTensor x = random.Normal([19, 24], dtype);
        using GuardedTensor w = random.Normal([16, 24], dtype);
        using GuardedTensor bias = random.Normal([16], dtype);
        using GuardedTensor inner = GuardedTensor.Empty([19, 24], dtype);
        using GuardedTensor expected = GuardedTensor.Empty([19, 16], dtype);
        using GuardedTensor y = GuardedTensor.Empty([19, 16], dtype);
        Gelu.Forward(x, true, inner);
        Kernels.MatMul.Run(inner, false, w, true, expected, bias: bias);
        GeluLinear.Forward(x, true, w, transposed: false, bias, y);
        Assert.Equal(expected.ToBytes(), y.ToBytes());
    }

    [Fact]
    public void A_wrong_argument_is_named()
    {
        using GuardedTensor x = GuardedTensor.Empty([3, 4], DType.F32);
        using GuardedTensor w = GuardedTensor.Empty([5, 6], DType.F32);
        using GuardedTensor dy = GuardedTensor.Empty([3, 5], DType.F32);
        var error = Assert.Throws<ArgumentException>(() => GeluLinear.Backward(dy, x, true, w, false, x));
        Assert.Contains("GeluLinear.Backward: w does not go with x, f32[3, 4]", error.Message);
    }
}
