using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd.Tests;

/// <summary>Reproducible inputs: the same seed gives the same values.</summary>
internal static class Leaves
{
    /// <summary>A trainable f64 leaf of normal values.</summary>
    public static Variable Normal(Device device, Shape shape, ulong seed, float deviation = 1, double mean = 0) =>
        new(Tensor.From(Array.ConvertAll(Values(shape.Elements, seed, deviation), x => x + mean), shape, device), requiresGrad: true);

    /// <summary>A trainable f32 leaf of normal values.</summary>
    public static Variable Single(Device device, Shape shape, ulong seed, bool requiresGrad = true)
    {
        var values = new float[shape.Elements];
        RandomNumbers.Normal(seed, 7, values, 1);
        return new Variable(Tensor.From(values, shape, device), requiresGrad, $"leaf{seed}");
    }

    /// <summary>Normal values around 0.</summary>
    public static double[] Values(long count, ulong seed, float deviation = 1)
    {
        var values = new float[count];
        RandomNumbers.Normal(seed, 7, values, deviation);
        return Array.ConvertAll(values, x => (double)x);
    }

    /// <summary>The gradient's bytes, or null where there is none.</summary>
    public static byte[]? GradientBytes(Variable variable) => variable.Gradient?.HostBytes().ToArray();
}
