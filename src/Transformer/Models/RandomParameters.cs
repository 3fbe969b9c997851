using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>
/// GPT-2's initialisation for training from scratch: weights N(0, 0.02²), those that end a residual branch divided by
/// √(2·layers), norms' scales 1, biases 0. Values depend on the seed and the parameter's name only.
/// </summary>
public sealed class RandomParameters(ulong seed, int layers, double standardDeviation = 0.02) : IParameterSource
{
    /// <inheritdoc/>
    public Tensor Get(string name, Shape shape, DType dtype, Device device)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(device);
        var values = new float[shape.Elements];
        if (shape.Rank == 1)
        {
            Array.Fill(values, name.EndsWith(".weight", StringComparison.Ordinal) ? 1f : 0f);
        }
        else
        {
            bool endsBranch = name.Contains("o_proj", StringComparison.Ordinal) ||
                name.Contains("down_proj", StringComparison.Ordinal) || name.Contains("c_proj", StringComparison.Ordinal);
            double scale = endsBranch ? standardDeviation / Math.Sqrt(2.0 * layers) : standardDeviation;
            RandomNumbers.Normal(seed, RandomNumbers.StreamOf(name), values, (float)scale);
        }

        Tensor f32 = Tensor.From(values, shape, device);
        if (dtype == DType.F32)
        {
            return f32;
        }

        using (f32)
        {
            Tensor result = f32.EmptyLike(dtype);
            Cast.Run(f32, result);
            return result;
        }
    }
}
