using Engine.Tensors;

namespace Engine.Autograd;

/// <summary>The number one as the gradient of a loss.</summary>
internal static class UnitGradient
{
    private const uint SingleOne = 0x3F800000;

    /// <summary>A new tensor like a scalar loss [1] that holds one. In f32 nothing comes from the host, so that it may be recorded.</summary>
    public static Tensor Like(Tensor loss)
    {
        Tensor one = loss.EmptyLike();
        if (one.DType == DType.F32)
        {
            one.Device.Fill(one.Pointer, SingleOne, one.Elements);
        }
        else
        {
            one.CopyFrom<double>([1]);
        }

        return one;
    }
}
