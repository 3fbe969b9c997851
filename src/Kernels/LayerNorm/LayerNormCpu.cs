using Engine.Tensors;

namespace Engine.Kernels;

internal static class LayerNormCpu
{
    public static void Forward(Tensor x, Tensor w, Tensor? b, float eps, Tensor y, Tensor? mean, Tensor? rstd) =>
        Forward(x, null, null, w, b, eps, y, mean, rstd);

    /// <summary>Of s = x + d where they are given.</summary>
    public static void Forward(Tensor x, Tensor? d, Tensor? s, Tensor w, Tensor? b, float eps, Tensor y, Tensor? mean, Tensor? rstd)
    {
        if (x.DType == DType.F64)
        {
            RowNorm<double, Centering>.Forward(x, d, s, w, b, eps, y, mean, rstd);
        }
        else
        {
            RowNorm<float, Centering>.Forward(x, d, s, w, b, eps, y, mean, rstd);
        }
    }

    public static void Backward(Tensor dy, Tensor x, Tensor w, Tensor mean, Tensor rstd, Tensor? dx, Tensor? dw, Tensor? db, bool addX)
    {
        if (x.DType == DType.F64)
        {
            RowNorm<double, Centering>.Backward(dy, x, w, mean, rstd, dx, dw, db, addX);
        }
        else
        {
            RowNorm<float, Centering>.Backward(dy, x, w, mean, rstd, dx, dw, db, addX);
        }
    }

    private readonly struct Centering : ICentering
    {
        public static bool Centered => true;
    }
}
