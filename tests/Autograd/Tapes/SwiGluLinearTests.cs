using System.Runtime.InteropServices;
using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd.Tests.Tapes;

/// <summary>The end of a gated MLP as one op against its two ops one after the other.</summary>
public sealed class SwiGluLinearTests
{
    private const int Rows = 70, Inner = 264, Outputs = 40, Rank = 16;

    [Theory]
    [InlineData(DType.F32)]
    [InlineData(DType.BF16)]
    [InlineData(DType.F16)]
    public void Results_are_those_of_the_two_ops_and_the_inner_product_is_not_kept(DType dtype)
    {
        var device = new CountedDevice();
        using (var problem = new Problem(device, dtype))
        {
            (byte[] together, Dictionary<string, byte[]> fused, long kept) = problem.Run(fused: true);
            (byte[] apart, Dictionary<string, byte[]> steps, long all) = problem.Run(fused: false);
            if (TestDevice.IsCuda && dtype != DType.F32)
            {
                AssertSameButForS(Values(apart, dtype), Values(together, dtype), dtype);
            }
            else
            {
                Assert.Equal(apart, together);
            }

            foreach ((string name, byte[] gradient) in steps)
            {
                // A GPU adds the parts of dA up in another order when it forms y in the same pass.
                if (name == "a" && TestDevice.IsCuda)
                {
                    AssertSameSums(gradient, fused[name]);
                }
                else if (name == "b" && TestDevice.IsCuda && dtype != DType.F32)
                {
                    AssertSameButForS(Values(gradient, DType.F32), Values(fused[name], DType.F32), dtype);
                }
                else
                {
                    Assert.Equal(gradient, fused[name]);
                }
            }

            // Gate, up and S are kept either way; y with its border only by the two ops.
            long size = dtype.Size();
            Assert.Equal(size * Rows * ((2 * Inner) + Rank), kept);
            Assert.Equal(size * Rows * ((2 * Inner) + Inner), all);
        }

        Assert.Equal(0, device.LiveStorages);
    }

    // Rows products, exact in f32, in two orders: each sum is off by at most Rows·2⁻²⁴ of its terms' magnitudes, which for terms of
    // either sign are about √Rows of the largest sum; four times that for the elements far out.
    private static void AssertSameSums(byte[] expected, byte[] actual)
    {
        float[] wanted = MemoryMarshal.Cast<byte, float>(expected).ToArray();
        float[] sums = MemoryMarshal.Cast<byte, float>(actual).ToArray();
        double allowed = 4 * 2 * Rows * Math.Sqrt(Rows) * Math.ScaleB(1, -24) * wanted.Max(MathF.Abs);
        Assert.True(allowed > 0);
        Assert.Equal(wanted.Length, sums.Length);
        Assert.All(sums, (value, i) => Assert.InRange(value, wanted[i] - allowed, wanted[i] + allowed));
    }

    // A GPU forms S beside y with its parts added up in another order, so that two S may be rounded to neighbours, 2·u apart. Those
    // distances are of either sign, as the products with S are: together about 2·u of the sums' deviation, which the largest sum is
    // above; four times that for the elements far out, and 2·u for the rounding of the sum itself.
    private static void AssertSameButForS(float[] wanted, float[] actual, DType dtype)
    {
        double allowed = 5 * 2 * ErrorBound.UnitRoundoff(dtype) * wanted.Max(MathF.Abs);
        Assert.True(allowed > 0);
        Assert.Equal(wanted.Length, actual.Length);
        Assert.All(actual, (value, i) => Assert.InRange(value, wanted[i] - allowed, wanted[i] + allowed));
    }

    private static float[] Values(byte[] bytes, DType dtype) => dtype switch
    {
        DType.BF16 => Array.ConvertAll(MemoryMarshal.Cast<byte, BFloat16>(bytes).ToArray(), static v => (float)v),
        DType.F16 => Array.ConvertAll(MemoryMarshal.Cast<byte, Half>(bytes).ToArray(), static v => (float)v),
        _ => MemoryMarshal.Cast<byte, float>(bytes).ToArray(),
    };

    [Fact]
    public void Live_memory_between_forward_and_backward_has_no_inner_product()
    {
        var device = new CountedDevice();
        using var problem = new Problem(device, DType.F32);
        long before = device.LiveBytes;
        using var tape = new Tape();
        using Variable y = problem.Forward(tape, fused: true);
        long grown = device.LiveBytes - before;

        // y [Rows, Outputs] and S [Rows, Rank]; a device may round sizes up, but not by an inner product.
        long expected = sizeof(float) * Rows * (Outputs + Rank);
        Assert.InRange(grown, expected, expected + (sizeof(float) * Rows * Inner / 2));
    }

    [Fact]
    public void Without_a_gradient_nothing_is_recorded()
    {
        var device = new CountedDevice();
        using var problem = new Problem(device, DType.F32);
        byte[] recorded;
        using (var tape = new Tape())
        {
            using Variable y = problem.Forward(tape, fused: true);
            recorded = y.Value.ToBytes();
        }

        using Tape inference = Tape.Inference();
        using Variable again = problem.Forward(inference, fused: true);
        Assert.Equal(0, inference.Count);
        Assert.Equal(recorded, again.Value.ToBytes());
    }

    // A GPU's library may take another product for an operand without a border.
    [Fact]
    [Trait("Device", "Cpu")]
    public void A_alone_can_be_trained_behind_a_frozen_input()
    {
        var device = new CountedDevice();
        using var problem = new Problem(device, DType.F32);
        byte[] gradient = problem.Run(fused: false).Gradients["a"];
        problem.Hidden.RequiresGrad = false;
        (_, Dictionary<string, byte[]> alone, _) = problem.Run(fused: true);
        Assert.Equal(gradient, alone["a"]);
        Assert.Null(problem.Hidden.Gradient);
    }

    private sealed class Problem : IDisposable
    {
        private readonly CountedDevice _device;
        private readonly BorderedWeight _weight;
        private readonly Variable _a;
        private readonly Variable _b;
        private readonly Variable _bias;

        public Problem(CountedDevice device, DType dtype)
        {
            _device = device;
            Hidden = Leaf([Rows, 2 * Inner], dtype, 1, 2);
            _a = Leaf([Rank, Inner], DType.F32, 2, 0.25f);
            _b = Leaf([Outputs, Rank], DType.F32, 3, 0.25f);
            _bias = Leaf([Outputs], dtype, 4, 1);
            using Variable frozen = Leaf([Outputs, Inner], dtype, 5, 0.1f);
            _weight = BorderedWeight.Create([frozen.Value], [Rank], transposed: false);
            Assert.True(_weight.TryAssign([Rank], [0.5f]));
            using var writer = new BorderWriter();
            writer.Add(_weight, 0, _a.Value, _b.Value);
            writer.Run();
        }

        public Variable Hidden { get; }

        public Variable Forward(Tape tape, bool fused)
        {
            AdaptedPart[] parts = [new(_a, _b, _bias)];
            if (fused)
            {
                return tape.SwiGluLinear(Hidden, _weight, parts);
            }

            using Variable inner = tape.SwiGlu(Hidden, _weight.Border);
            return tape.AdaptedLinear(inner, null, _weight, parts);
        }

        public (byte[] Y, Dictionary<string, byte[]> Gradients, long Kept) Run(bool fused)
        {
            var named = new Dictionary<string, Variable> { ["hidden"] = Hidden, ["a"] = _a, ["b"] = _b, ["bias"] = _bias };
            foreach (Variable variable in named.Values)
            {
                variable.ClearGradient();
            }

            using var tape = new Tape();
            using Variable y = Forward(tape, fused);
            (byte[] bytes, long kept) = (y.Value.ToBytes(), tape.SavedBytes);
            using (Variable gradient = Leaf([Rows, Outputs], y.Value.DType, 6, 1))
            {
                tape.Backward(y, gradient.Value.Share());
            }

            return (bytes, named.Where(p => p.Value.Gradient is not null).ToDictionary(p => p.Key, p => p.Value.Gradient!.ToBytes()), kept);
        }

        public void Dispose()
        {
            Array.ForEach([Hidden, _a, _b, _bias], static v => v.Dispose());
            _weight.Dispose();
        }

        private Variable Leaf(Shape shape, DType dtype, ulong seed, float deviation)
        {
            using Tensor single = Tensor.From(Array.ConvertAll(Leaves.Values(shape.Elements, seed, deviation), static v => (float)v), shape, _device);
            Tensor typed = single.EmptyLike(dtype);
            Cast.Run(single, typed);
            return new Variable(typed, requiresGrad: true);
        }
    }
}
