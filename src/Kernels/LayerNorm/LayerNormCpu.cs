using Engine.Tensors;

namespace Engine.Kernels;

internal static class LayerNormCpu
{
    public static void Forward(Tensor x, Tensor w, Tensor? b, float eps, Tensor y, Tensor? mean, Tensor? rstd)
    {
        if (x.DType == DType.F64)
        {
            RowNorm<double, Centering>.Forward(x, w, b, eps, y, mean, rstd);
        }
        else
        {
            RowNorm<float, Centering>.Forward(x, w, b, eps, y, mean, rstd);
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
