using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels.Tests;

[Collection(nameof(CpuParallel))]
public sealed class GeluTests
{
    private static readonly double s_k = Math.Sqrt(2 / Math.PI);

    public static TheoryData<DType, bool, int> Cases
    {
        get
        {
            var data = new TheoryData<DType, bool, int>();
            foreach (DType dtype in TestDevice.FloatTypes)
            {
                foreach (int n in new[] { 0, 1, 7, 33, 2500, 4096 })
                {
                    data.Add(dtype, false, n);
                    data.Add(dtype, true, n);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Forward_is_within_its_bound(DType dtype, bool tanh, int n)
    {
        using GuardedTensor x = new RandomTensors(1).Normal([n], dtype, deviation: 2.5);
        using GuardedTensor y = GuardedTensor.Empty([n], dtype);
        Gelu.Forward(x, tanh, y);
        double[] xs = x.ToDoubles();
        KernelAssert.Close(new GeluCase(n, dtype, tanh, Backward: false), Reference.Map(xs, v => Value(v, tanh)), y, Reference.Map(xs, Math.Abs));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Backward_is_within_its_bound(DType dtype, bool tanh, int n)
    {
        var random = new RandomTensors(2);
        using GuardedTensor x = random.Normal([n], dtype, deviation: 2.5);
        using GuardedTensor dy = random.Normal([n], dtype);
        using GuardedTensor dx = GuardedTensor.Empty([n], dtype);
        Gelu.Backward(dy, x, tanh, dx);
        double[] dys = dy.ToDoubles();
        KernelAssert.Close(
            new GeluCase(n, dtype, tanh, Backward: true),
            Reference.Map(dys, x.ToDoubles(), (g, v) => g * Derivative(v, tanh)),
            dx,
            Reference.Map(dys, Math.Abs));
    }

    [Theory]
    [InlineData(DType.F32, false)]
    [InlineData(DType.F32, true)]
    [InlineData(DType.BF16, false)]
    [InlineData(DType.BF16, true)]
    [InlineData(DType.F16, false)]
    [InlineData(DType.F16, true)]
    public void Large_arguments_saturate(DType dtype, bool tanh)
    {
        double[] values = [-40960, -1000, -40, 40, 1000, 40960];
        using GuardedTensor x = GuardedTensor.From(values, [6], dtype);
        using GuardedTensor dy = GuardedTensor.From([1, 1, 1, 1, 1, 1], [6], dtype);
        using GuardedTensor y = GuardedTensor.Empty([6], dtype);
        using GuardedTensor dx = GuardedTensor.Empty([6], dtype);
        Gelu.Forward(x, tanh, y);
        Gelu.Backward(dy, x, tanh, dx);
        Assert.Equal([0, 0, 0, 40, 1000, 40960], y.ToDoubles());
        Assert.Equal([0, 0, 0, 1, 1, 1], dx.ToDoubles());
    }

    /// <summary>x·σ(w) of −∞ is −∞·0, as in PyTorch; NaN stays NaN.</summary>
    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void The_tanh_form_of_what_is_no_finite_number(DType dtype)
    {
        using GuardedTensor x = GuardedTensor.From([double.PositiveInfinity, double.NegativeInfinity, double.NaN], [3], dtype);
        using GuardedTensor y = GuardedTensor.Empty([3], dtype);
        Gelu.Forward(x, true, y);
        Assert.Equal([double.PositiveInfinity, double.NaN, double.NaN], y.ToDoubles());
    }

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    public void Threads_do_not_change_the_bits(DType dtype) => KernelAssert.SameBitsForEveryThreadCount(() =>
    {
        using GuardedTensor x = new RandomTensors(3).Normal([70_001], dtype);
        GuardedTensor y = GuardedTensor.Empty([70_001], dtype);
        Gelu.Forward(x, false, y);
        return [y];
    });

    [Fact]
    public void In_place_gives_the_same_bits()
    {
        using GuardedTensor x = new RandomTensors(4).Normal([1000], DType.BF16);
        using GuardedTensor y = GuardedTensor.Empty([1000], DType.BF16);
        Gelu.Forward(x, true, y);
        Gelu.Forward(x, true, x);
        Assert.Equal(y.ToBytes(), x.ToBytes());
    }

    [Fact]
    public void A_wrong_argument_is_named()
    {
        using GuardedTensor x = GuardedTensor.Empty([3], DType.F32);
        using GuardedTensor y = GuardedTensor.Empty([4], DType.F32);
        using GuardedTensor ids = GuardedTensor.From([1, 2, 3], [3]);
        var shape = Assert.Throws<ArgumentException>(() => Gelu.Forward(x, false, y));
        Assert.Contains("Gelu.Forward: y has to be like x, f32[3]; it is f32[4]", shape.Message);
        var type = Assert.Throws<ArgumentException>(() => Gelu.Forward(ids, false, ids));
        Assert.Contains("x has to be f32, f64, bf16 or f16; it is i32[3]", type.Message);
    }

    private static double Value(double x, bool tanh) =>
        tanh ? 0.5 * x * (1 + Math.Tanh(s_k * (x + (0.044715 * x * x * x)))) : x * Reference.NormalDistribution(x);

    internal static double Derivative(double x, bool tanh)
    {
        if (!tanh)
        {
            return Reference.NormalDistribution(x) + (x * Reference.NormalDensity(x));
        }

        double t = Math.Tanh(s_k * (x + (0.044715 * x * x * x)));
        return (0.5 * (1 + t)) + (0.5 * x * (1 - (t * t)) * s_k * (1 + (3 * 0.044715 * x * x)));
    }
}
