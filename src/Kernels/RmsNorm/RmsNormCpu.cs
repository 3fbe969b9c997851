using Engine.Tensors;

namespace Engine.Kernels;

internal static class RmsNormCpu
{
    public static void Forward(Tensor x, Tensor w, float eps, Tensor y, Tensor? rstd) =>
        Forward(x, null, null, w, eps, y, rstd);

    /// <summary>Of s = x + d where they are given.</summary>
    public static void Forward(Tensor x, Tensor? d, Tensor? s, Tensor w, float eps, Tensor y, Tensor? rstd)
    {
        if (x.DType == DType.F64)
        {
            RowNorm<double, Centering>.Forward(x, d, s, w, null, eps, y, null, rstd);
        }
        else
        {
            RowNorm<float, Centering>.Forward(x, d, s, w, null, eps, y, null, rstd);
        }
    }

    public static void Backward(Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor? dx, Tensor? dw, bool addX)
    {
        if (x.DType == DType.F64)
        {
            RowNorm<double, Centering>.Backward(dy, x, w, null, rstd, dx, dw, null, addX);
        }
        else
        {
            RowNorm<float, Centering>.Backward(dy, x, w, null, rstd, dx, dw, null, addX);
        }
    }

    private readonly struct Centering : ICentering
    {
        public static bool Centered => false;
    }
}
