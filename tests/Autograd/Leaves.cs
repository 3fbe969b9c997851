using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Autograd.Tests;

/// <summary>Reproducible inputs: the same seed gives the same values.</summary>
internal static class Leaves
{
    /// <summary>The widest dtype that the run's device computes in.</summary>
    public static DType Precision { get; } = TestDevice.IsCuda ? DType.F32 : DType.F64;

    /// <summary>A trainable leaf of normal values in <see cref="Precision"/>.</summary>
    public static Variable Normal(Device device, Shape shape, ulong seed, float deviation = 1, double mean = 0) =>
        new(Of(Array.ConvertAll(Values(shape.Elements, seed, deviation), x => x + mean), shape, device), requiresGrad: true);

    /// <summary>A tensor of these values in <see cref="Precision"/>.</summary>
    public static Tensor Of(double[] values, Shape shape, Device device) => Precision == DType.F64
        ? Tensor.From(values, shape, device)
        : Tensor.From(Array.ConvertAll(values, x => (float)x), shape, device);

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
    public static byte[]? GradientBytes(Variable variable) => variable.Gradient?.ToBytes();
}
