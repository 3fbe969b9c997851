using Engine.Tensors;

namespace Engine.Kernels.Tests;

/// <summary>Reproducible random inputs: the same seed gives the same values.</summary>
internal sealed class RandomTensors(int seed)
{
    private readonly Random _random = new(seed);

    /// <summary>Normal values with the given mean and standard deviation, rounded to <paramref name="dtype"/>.</summary>
    public GuardedTensor Normal(Shape shape, DType dtype, double deviation = 1, double mean = 0, int rowGap = 0) =>
        GuardedTensor.From(Values(shape.Elements, deviation, mean), shape, dtype, rowGap);

    /// <summary>Integers from <paramref name="low"/> (inclusive) to <paramref name="high"/> (exclusive).</summary>
    public GuardedTensor Integers(Shape shape, int low, int high) => GuardedTensor.From(Integers(shape.Elements, low, high), shape);

    /// <inheritdoc cref="Integers(Shape, int, int)"/>
    public int[] Integers(long count, int low, int high)
    {
        var values = new int[count];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = _random.Next(low, high);
        }

        return values;
    }

    /// <summary>Normal values (Box and Muller, 1958).</summary>
    public double[] Values(long count, double deviation = 1, double mean = 0)
    {
        var values = new double[count];
        for (int i = 0; i < values.Length; i++)
        {
            double radius = Math.Sqrt(-2 * Math.Log(1 - _random.NextDouble()));
            values[i] = mean + (deviation * radius * Math.Cos(2 * Math.PI * _random.NextDouble()));
        }

        return values;
    }
}
