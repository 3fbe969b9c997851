using Engine.Tensors;

namespace Engine.Kernels;

internal static class RmsNormCuda
{
    private static readonly RowNormCuda s_norm = new("rmsnorm", "rmsnorm");

    public static void Forward(Tensor x, Tensor w, float eps, Tensor y, Tensor? rstd) =>
        s_norm.Forward(x, w, null, eps, y, null, rstd);

    public static void Backward(Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor? dx, Tensor? dw, bool addX) =>
        s_norm.Backward(dy, x, w, null, rstd, dx, dw, null, addX);
}
