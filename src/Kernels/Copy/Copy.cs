using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>Copies between tensors of one dtype and shape whose strides are free: transposes, slices, concatenation.</summary>
public static class Copy
{
    /// <summary>The tensor without gaps: another share of it, or a copy where it has some. The caller disposes it.</summary>
    public static Tensor Dense(Tensor x)
    {
        ArgumentNullException.ThrowIfNull(x);
        return x.IsContiguous ? x.Share() : Clone(x);
    }

    /// <summary>A copy without gaps in memory of its own. The caller disposes it.</summary>
    public static Tensor Clone(Tensor x)
    {
        ArgumentNullException.ThrowIfNull(x);
        using var made = new Tentative();
        Tensor copy = made.Add(x.EmptyLike());
        Run(x, copy);
        made.Keep();
        return copy;
    }

    /// <summary>y = x. Any dtype; equal shapes; any non-negative strides; the memory of the two does not overlap.</summary>
    /// <exception cref="ArgumentException">Dtype, shape or device differ.</exception>
    public static void Run(Tensor x, Tensor y)
    {
        const string Op = "Copy.Run";
        ArgumentNullException.ThrowIfNull(x);
        Check.Like(Op, y, x);
        switch (x.Device.Kind)
        {
            case DeviceKind.Cpu:
                CopyCpu.Run(x, y);
                break;
            case DeviceKind.Cuda:
                CopyCuda.Run(x, y);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, x.Device);
        }
    }
}
