using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>The angles by which <see cref="Rope"/> turns the tokens of a batch.</summary>
/// <param name="Cos">[P, D∕2], see <see cref="Rope.Apply"/>.</param>
/// <param name="Sin">Like <paramref name="Cos"/>.</param>
/// <param name="Positions">I32 [B, T].</param>
public readonly record struct Rotation(Tensor Cos, Tensor Sin, Tensor Positions)
{
    /// <summary>Turns every head of x [B, T, H, D] in place.</summary>
    /// <exception cref="ArgumentException">A dtype, shape, layout or device does not fit.</exception>
    public void Apply(Tensor x, bool inverse) => Rope.Apply(x, Cos, Sin, Positions, inverse, x);

    internal void Check(string op, Tensor x) => Rope.CheckAngles(op, x, Cos, Sin, Positions);
}
