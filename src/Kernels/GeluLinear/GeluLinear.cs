using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// A linear layer of activated inputs, y = gelu(x)·Wᵀ + b, as the feed-forward part of GPT-2 ends: its backward forms the gradient
/// of x without that of gelu(x) in memory. On a GPU the tanh form in 16 bits is the product's epilogue.
/// </summary>
public static class GeluLinear
{
    /// <summary>y = gelu(x)·Wᵀ + b.</summary>
    /// <param name="x">[R, K]; rows may have gaps.</param>
    /// <param name="tanh">The tanh form, see <see cref="Gelu"/>.</param>
    /// <param name="w">[N, K], or [K, N] when <paramref name="transposed"/>.</param>
    /// <param name="transposed">How W is stored.</param>
    /// <param name="bias">[N], or null.</param>
    /// <param name="y">[R, N].</param>
    /// <exception cref="ArgumentException">Shapes, dtypes, devices or layouts do not fit.</exception>
    public static void Forward(Tensor x, bool tanh, Tensor w, bool transposed, Tensor? bias, Tensor y)
    {
        ArgumentNullException.ThrowIfNull(x);
        using Tensor inner = Tensor.Empty(x.Shape, x.DType, x.Device);
        Gelu.Forward(x, tanh, inner);
        MatMul.Run(inner, false, w, !transposed, y, bias: bias);
    }

    /// <summary>dx = (dy·W)∘gelu′(x).</summary>
    /// <param name="dy">[R, N].</param>
    /// <param name="x">As in the forward.</param>
    /// <param name="tanh">As in the forward.</param>
    /// <param name="w">As in the forward.</param>
    /// <param name="transposed">As in the forward.</param>
    /// <param name="dx">Like x; does not overlap the others.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes, devices or layouts do not fit.</exception>
    public static void Backward(Tensor dy, Tensor x, bool tanh, Tensor w, bool transposed, Tensor dx)
    {
        const string Op = "GeluLinear.Backward";
        Check.FloatStrided(Op, x);
        Check.Rank(Op, x, 2);
        Check.Like(Op, dx, x);
        Check.FloatStrided(Op, dy);
        Check.FloatStrided(Op, w);
        Check.Rank(Op, w, 2);
        Check.Shaped(Op, dy, [x.Shape[0], w.Shape[transposed ? 1 : 0]]);
        if (w.Shape[transposed ? 0 : 1] != x.Shape[1])
        {
            Check.Throw(Op, nameof(w), $"does not go with x, {x}", w);
        }

        Check.SameDevice(Op, dy, x);
        Check.SameDevice(Op, w, x);
        if (tanh && x.Device.Kind == DeviceKind.Cuda && MatMulCuda.TryRunGeluGradient(dy, w, transposed, x, dx))
        {
            return;
        }

        MatMul.Run(dy, false, w, transposed, dx);
        Gelu.Backward(dx, x, tanh, dx);
    }
}
