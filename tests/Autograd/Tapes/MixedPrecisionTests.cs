using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd.Tests.Tapes;

/// <summary>A 16-bit base with f32 adapters: each gradient has its variable's dtype and about the f32 run's values.</summary>
public sealed class MixedPrecisionTests
{
    [Theory]
    [InlineData(DType.BF16, 9)]
    [InlineData(DType.F16, 12)]
    public void Gradients_have_their_variables_dtype(DType dtype, int bits)
    {
        Dictionary<string, (DType Type, double[] Values)> exact = Run(DType.F32);
        Dictionary<string, (DType Type, double[] Values)> half = Run(dtype);
        foreach ((string name, (DType type, double[] values)) in half)
        {
            Assert.Equal(name is "a" or "b" ? DType.F32 : dtype, type);
            double largest = exact[name].Values.Max(Math.Abs);
            Assert.True(largest > 1e-3);
            for (int i = 0; i < values.Length; i++)
            {
                // Five 16-bit results lie between any leaf and the loss and as many gradients on the way back, each off by
                // half a unit of its own last place; an element's errors are averaged over sums, the largest are a few
                // times that of the largest element: 3·10·2⁻ᵇ.
                Assert.Equal(exact[name].Values[i], values[i], 30 * Math.Pow(2, -bits) * largest);
            }
        }
    }

    private static Dictionary<string, (DType Type, double[] Values)> Run(DType dtype)
    {
        var device = new CountedDevice();
        Dictionary<string, (DType Type, double[] Values)> gradients;
        using (Variable x = Leaf("x", [9, 16], dtype, device, 1))
        using (Variable norm = Leaf("norm", [16], dtype, device, 1))
        using (Variable w = Leaf("w", [16, 16], dtype, device, 0.25f))
        using (Variable a = Leaf("a", [4, 16], DType.F32, device, 0.25f))
        using (Variable b = Leaf("b", [16, 4], DType.F32, device, 0.5f))
        using (Variable head = Leaf("head", [13, 16], dtype, device, 0.5f))
        using (Tensor labels = Tensor.From([.. Enumerable.Range(0, 9).Select(i => i % 13)], [9], device))
        using (Tensor scale = Tensor.From([1f / 9], [1], device))
        using (Tensor losses = Tensor.Empty([9], DType.F32, device))
        {
            using (var tape = new Tape())
            {
                using Variable normed = tape.RmsNorm(x, norm, 1e-5f);
                using Variable y = tape.Linear(normed, w, null);
                using Variable adapted = tape.LowRank(y, normed, a, b, 0.5f);
                using Variable sum = tape.Add(x, adapted);
                using Variable loss = tape.HeadCrossEntropy(sum, head, labels, scale, losses);
                Assert.Equal(DType.F32, loss.Value.DType);
                tape.Backward(loss, Tensor.From([1f], [1], device));
            }

            gradients = new[] { x, norm, w, a, b, head }.ToDictionary(v => v.Name!, v => (v.Gradient!.DType, v.Gradient.ToDoubles()));
        }

        Assert.Equal(0, device.LiveStorages);
        return gradients;
    }

    // The values are bf16 numbers with few enough bits for every dtype, so that all runs start from the same ones.
    private static Variable Leaf(string name, Shape shape, DType dtype, Device device, float deviation)
    {
        double[] values = Leaves.Values(shape.Elements, RandomNumbers.StreamOf(name), deviation);
        using Tensor single = Tensor.From(Array.ConvertAll(values, v => MathF.Round((float)v * 32) / 32), shape, device);
        Tensor typed = single.EmptyLike(dtype);
        Cast.Run(single, typed);
        return new Variable(typed, requiresGrad: true, name);
    }
}
