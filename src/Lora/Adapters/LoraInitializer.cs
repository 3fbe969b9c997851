using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Lora;

/// <summary>
/// First values of A and B. They depend on the seed and the linear's path only, not on the order in which linears are
/// visited.
/// </summary>
internal static class LoraInitializer
{
    /// <summary>A [rank, in] and B [out, rank] in f32 on the host, for every method except PiSSA.</summary>
    public static (float[] A, float[] B) Create(LoraInitKind kind, ulong seed, string path, int rank, int inputs, int outputs)
    {
        var a = new float[rank * inputs];
        var b = new float[outputs * rank];
        if (kind == LoraInitKind.Gaussian)
        {
            RandomNumbers.Normal(seed, RandomNumbers.StreamOf(path + ".lora_A"), a, 1f / rank);
            return (a, b);
        }

        // Kaiming uniform with a = √5 draws from ±√(6/((1 + 5)·fan_in)) = ±1/√fan_in.
        RandomNumbers.Uniform(seed, RandomNumbers.StreamOf(path + ".lora_A"), a, 1f / MathF.Sqrt(inputs));
        if (kind == LoraInitKind.Random)
        {
            RandomNumbers.Uniform(seed, RandomNumbers.StreamOf(path + ".lora_B"), b, 1f / MathF.Sqrt(rank));
        }

        return (a, b);
    }

    /// <summary>
    /// PiSSA: with W = U·Σ·Vᵀ (W taken as [out, in]), A = √(Σ_r/s)·V_rᵀ and B = U_r·√(Σ_r/s), so that s·B·A is the best
    /// rank-r part of W. Source: Meng et al., PiSSA, 2024, with PEFT's division by the scale.
    /// </summary>
    public static (float[] A, float[] B) Pissa(float[] weight, int outputs, int inputs, int rank, double scale)
    {
        (double[] u, double[] sigma, double[] vt) = SingularValues.Truncated(weight, outputs, inputs, rank);
        var a = new float[rank * inputs];
        var b = new float[outputs * rank];
        for (int i = 0; i < rank; i++)
        {
            double root = Math.Sqrt(sigma[i] / scale);
            for (int c = 0; c < inputs; c++)
            {
                a[(i * inputs) + c] = (float)(root * vt[(i * inputs) + c]);
            }

            for (int r = 0; r < outputs; r++)
            {
                b[(r * rank) + i] = (float)(root * u[(r * rank) + i]);
            }
        }

        return (a, b);
    }

    /// <summary>A tensor of f32 values in <paramref name="dtype"/> on a device.</summary>
    public static Tensor ToTensor(float[] values, Shape shape, DType dtype, Device device)
    {
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
