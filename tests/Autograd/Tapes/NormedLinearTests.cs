using System.Runtime.InteropServices;
using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd.Tests.Tapes;

/// <summary>An adapted linear that reads a norm's result, which it does not keep, against one that keeps it.</summary>
public sealed class NormedLinearTests
{
    private const int Rows = 70, Inputs = 264, Outputs = 40, Rank = 16;

    public static TheoryData<DType, bool, bool> Cases
    {
        get
        {
            var data = new TheoryData<DType, bool, bool>();
            foreach (DType dtype in new[] { DType.F32, DType.BF16, DType.F16 })
            {
                foreach (bool centered in new[] { false, true })
                {
                    data.Add(dtype, centered, false);
                    data.Add(dtype, centered, true);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Gradients_are_those_with_the_norms_result_kept(DType dtype, bool centered, bool ofSum)
    {
        var device = new CountedDevice();
        using (var problem = new Problem(device, dtype, centered, ofSum))
        {
            (byte[] y, Dictionary<string, byte[]> gradients) = problem.Run(keep: false);
            (byte[] expected, Dictionary<string, byte[]> steps) = problem.Run(keep: true);
            Assert.Equal(expected, y);
            Assert.Equal(steps.Keys, gradients.Keys);
            foreach ((string name, byte[] gradient) in steps)
            {
                // A GPU sums over the norm's input for bf16, and its library may take another product for an operand without a border.
                if (name == "a" && TestDevice.IsCuda)
                {
                    AssertSameSums(gradient, gradients[name], dtype == DType.BF16 ? Math.ScaleB(1, -8) : 0);
                }
                else
                {
                    Assert.True(gradient.AsSpan().SequenceEqual(gradients[name]), name);
                }
            }
        }

        Assert.Equal(0, device.LiveStorages);
    }

    // Two sums of Rows products are each off by Rows·2⁻²⁴ of their terms' magnitudes, and by the roundoff of what is rounded before; the
    // terms are of either sign and about √Rows of the largest sum, four times that for the elements far out.
    private static void AssertSameSums(byte[] expected, byte[] actual, double roundoff)
    {
        float[] wanted = MemoryMarshal.Cast<byte, float>(expected).ToArray();
        float[] sums = MemoryMarshal.Cast<byte, float>(actual).ToArray();
        double allowed = 4 * 2 * ((Rows * Math.ScaleB(1, -24)) + roundoff) * Math.Sqrt(Rows) * wanted.Max(MathF.Abs);
        Assert.True(allowed > 0);
        Assert.Equal(wanted.Length, sums.Length);
        Assert.All(sums, (value, i) => Assert.InRange(value, wanted[i] - allowed, wanted[i] + allowed));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_norms_result_does_not_live_until_backward(bool centered)
    {
        var device = new CountedDevice();
        using var problem = new Problem(device, DType.F32, centered, ofSum: true);
        long before = device.LiveBytes;
        using var tape = new Tape();
        using Variable y = problem.Forward(tape, keep: false);
        long grown = device.LiveBytes - before;

        // y, S, the sum and its statistics; a device may round sizes up, but not by a norm's result.
        long expected = sizeof(float) * Rows * (Outputs + Rank + Inputs + 2);
        Assert.InRange(grown, expected - (sizeof(float) * Rows), expected + (sizeof(float) * Rows * Inputs / 2));
    }

    // The norm's weights too may be trained, alone or not: what was recorded has them as they were.
    [Fact]
    public void Whatever_is_trained_alone_gets_the_gradient_it_gets_in_company()
    {
        foreach (bool centered in new[] { false, true })
        {
            using var problem = new Problem(new CountedDevice(), DType.F32, centered, ofSum: false);
            (_, Dictionary<string, byte[]> together) = problem.Run(keep: true);
            foreach (string name in together.Keys)
            {
                (_, Dictionary<string, byte[]> alone) = problem.Run(keep: false, only: name);
                Assert.Equal([name], alone.Keys);

                // A GPU's library may take another product for an operand without a border.
                if (!TestDevice.IsCuda)
                {
                    Assert.True(together[name].AsSpan().SequenceEqual(alone[name]), name);
                }
            }
        }
    }

    [Fact]
    public void A_checkpointed_block_has_the_same_gradients_and_leaves_nothing_behind()
    {
        var device = new CountedDevice();
        using (var problem = new Problem(device, DType.F32, centered: true, ofSum: true))
        {
            (byte[] y, Dictionary<string, byte[]> gradients) = problem.Run(keep: false);
            (byte[] again, Dictionary<string, byte[]> recomputed) = problem.Run(keep: false, checkpoint: true);
            Assert.Equal(y, again);
            Assert.Equal(gradients.Keys, recomputed.Keys);
            Assert.All(gradients, p => Assert.Equal(p.Value, recomputed[p.Key]));
        }

        Assert.Equal(0, device.LiveStorages);
    }

    [Fact]
    public void A_norms_result_that_outlives_its_backward_can_be_used_again()
    {
        var device = new CountedDevice();
        using (var problem = new Problem(device, DType.F32, centered: false, ofSum: false))
        {
            using var first = new Tape();
            using Variable normed = problem.Normed(first, problem.X);
            using (Variable y = problem.Linear(first, normed))
            {
                first.Backward(y, Tensor.Zeros(y.Value.Shape, y.Value.DType, device));
            }

            using var second = new Tape();
            using Variable other = problem.Linear(second, normed);
            second.Backward(other, Tensor.Zeros(other.Value.Shape, other.Value.DType, device));
        }

        Assert.Equal(0, device.LiveStorages);
    }

    private sealed class Problem : IDisposable
    {
        private readonly CountedDevice _device;
        private readonly BorderedWeight _weight;
        private readonly bool _centered;
        private readonly bool _ofSum;
        private readonly Dictionary<string, Variable> _leaves;

        public Problem(CountedDevice device, DType dtype, bool centered, bool ofSum)
        {
            (_device, _centered, _ofSum) = (device, centered, ofSum);
            _leaves = new()
            {
                ["x"] = Leaf([Rows, Inputs], dtype, 1, 2),
                ["norm"] = Leaf([Inputs], dtype, 2, 1),
                ["a"] = Leaf([Rank, Inputs], DType.F32, 3, 0.25f),
                ["b"] = Leaf([Outputs, Rank], DType.F32, 4, 0.25f),
                ["bias"] = Leaf([Outputs], dtype, 5, 1),
            };
            if (centered)
            {
                _leaves["shift"] = Leaf([Inputs], dtype, 6, 1);
            }

            if (ofSum)
            {
                _leaves["branch"] = Leaf([Rows, Inputs], dtype, 7, 2);
            }

            using Variable frozen = Leaf([Outputs, Inputs], dtype, 8, 0.1f);
            _weight = BorderedWeight.Create([frozen.Value], [Rank], transposed: false);
            Assert.True(_weight.TryAssign([Rank], [0.5f]));
            using var writer = new BorderWriter();
            writer.Add(_weight, 0, _leaves["a"].Value, _leaves["b"].Value);
            writer.Run();
        }

        public Variable X => _leaves["x"];

        public Variable Forward(Tape tape, bool keep) => Forward(tape, X, keep);

        public Variable Normed(Tape tape, Variable x)
        {
            if (!_ofSum)
            {
                return _centered
                    ? tape.LayerNorm(x, _leaves["norm"], _leaves["shift"], 1e-5f, _weight.Border)
                    : tape.RmsNorm(x, _leaves["norm"], 1e-5f, _weight.Border);
            }

            (Variable sum, Variable normed) = _centered
                ? tape.AddLayerNorm(x, _leaves["branch"], _leaves["norm"], _leaves["shift"], 1e-5f, _weight.Border)
                : tape.AddRmsNorm(x, _leaves["branch"], _leaves["norm"], 1e-5f, _weight.Border);
            sum.Dispose();
            return normed;
        }

        public Variable Linear(Tape tape, Variable x) =>
            tape.AdaptedLinear(x, null, _weight, [new AdaptedPart(_leaves["a"], _leaves["b"], _leaves["bias"])]);

        public (byte[] Y, Dictionary<string, byte[]> Gradients) Run(bool keep, bool checkpoint = false, string? only = null)
        {
            foreach ((string name, Variable variable) in _leaves)
            {
                variable.ClearGradient();
                variable.RequiresGrad = only is null || only == name;
            }

            using var tape = new Tape();
            using Variable y = checkpoint ? tape.Checkpoint(X, (t, x) => Forward(t, x, keep)) : Forward(tape, keep);
            byte[] bytes = y.Value.ToBytes();
            using (Variable gradient = Leaf([Rows, Outputs], y.Value.DType, 9, 1))
            {
                tape.Backward(y, gradient.Value.Share());
            }

            return (bytes, _leaves.Where(p => p.Value.Gradient is not null).ToDictionary(p => p.Key, p => p.Value.Gradient!.ToBytes()));
        }

        public void Dispose()
        {
            Array.ForEach([.. _leaves.Values], static v => v.Dispose());
            _weight.Dispose();
        }

        // Another variable of the same value does not say where it comes from.
        private Variable Forward(Tape tape, Variable x, bool keep)
        {
            using Variable normed = Normed(tape, x);
            using Variable same = tape.Same(normed);
            return Linear(tape, keep ? same : normed);
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
