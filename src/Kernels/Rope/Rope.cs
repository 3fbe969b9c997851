using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Rotary position embedding (Su et al., 2021, arXiv:2104.09864) with the pairing (i, i + D∕2) of the Hugging Face models
/// ("rotate half"): for position p and angle θ = angle[p, i],
/// y[i] = x[i]·cos θ − x[i + D∕2]·sin θ and y[i + D∕2] = x[i + D∕2]·cos θ + x[i]·sin θ.
/// The backward of a rotation is the inverse rotation.
/// </summary>
public static class Rope
{
    /// <summary>Rotates every head.</summary>
    /// <param name="x">[B, T, H, D], D even, last dimension contiguous, other strides free; f32, f64, bf16, f16.</param>
    /// <param name="cos">[P, D∕2], contiguous; f64 when x is f64, else f32. A scale of the attention goes into both tables.</param>
    /// <param name="sin">Like cos.</param>
    /// <param name="positions">I32 [B, T], contiguous, from 0 to P − 1.</param>
    /// <param name="inverse">Rotate by −θ.</param>
    /// <param name="y">Shape and dtype of x, last dimension contiguous, other strides free; may be x.</param>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A position is not from 0 to P − 1.</exception>
    public static void Apply(Tensor x, Tensor cos, Tensor sin, Tensor positions, bool inverse, Tensor y)
    {
        const string Op = "Rope.Apply";
        Check.FloatStrided(Op, x);
        Check.Rank(Op, x, 4);
        Check.Like(Op, y, x);
        Rows(Op, x, nameof(x));
        Rows(Op, y, nameof(y));
        CheckAngles(Op, x, cos, sin, positions);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                RopeCpu.Apply(x, cos, sin, positions, inverse, y);
                break;
            case DeviceKind.Cuda:
                RopeCuda.Apply(x, cos, sin, positions, inverse, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }

    internal static void CheckAngles(string op, Tensor x, Tensor cos, Tensor sin, Tensor positions)
    {
        int width = x.Shape[3];
        if (width % 2 != 0)
        {
            Check.Throw(op, nameof(x), "has to have an even last dimension", x);
        }

        Check.Type(op, cos, Check.Statistics(x.DType));
        Check.Rank(op, cos, 2);
        Check.Shaped(op, cos, [cos.Shape[0], width / 2]);
        Check.Like(op, sin, cos);
        Check.Contiguous(op, sin);
        Check.Type(op, positions, DType.I32);
        Check.Shaped(op, positions, [x.Shape[0], x.Shape[1]]);
        Check.SameDevice(op, cos, x);
        Check.SameDevice(op, positions, x);
    }

    private static void Rows(string op, Tensor tensor, string name)
    {
        if (tensor.Shape[3] > 1 && tensor.Strides[3] != 1)
        {
            Check.Throw(op, name, "has to have a contiguous last dimension", tensor);
        }
    }
}
