using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// What a norm's result x̂ can be formed from again, so that nobody has to keep it: that of <see cref="LayerNorm"/>, or without a
/// mean of <see cref="RmsNorm"/>.
/// </summary>
/// <param name="X">The norm's input [M, C], contiguous.</param>
/// <param name="Weight">[C], any float dtype.</param>
/// <param name="Bias">[C], any float dtype; null for none.</param>
/// <param name="Mean">The norm's mean for each row [M]; null for RMSNorm.</param>
/// <param name="Rstd">[M].</param>
/// <param name="Epsilon">The norm's.</param>
public readonly record struct NormedInput(Tensor X, Tensor Weight, Tensor? Bias, Tensor? Mean, Tensor Rstd, float Epsilon)
{
    /// <summary>x̂ with the norm's own bits.</summary>
    /// <param name="y">[M, C] of X's dtype, overwritten; any row stride.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes or devices do not fit.</exception>
    public void Form(Tensor y)
    {
        if (Mean is null)
        {
            RmsNorm.Forward(X, Weight, Epsilon, y, null);
        }
        else
        {
            LayerNorm.Forward(X, Weight, Bias, Epsilon, y, null, null);
        }
    }
}
