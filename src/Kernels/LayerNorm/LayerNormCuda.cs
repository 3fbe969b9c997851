using Engine.Tensors;

namespace Engine.Kernels;

internal static class LayerNormCuda
{
    private static readonly RowNormCuda s_norm = new("layernorm", "layernorm");

    public static void Forward(Tensor x, Tensor w, Tensor? b, float eps, Tensor y, Tensor? mean, Tensor? rstd) =>
        s_norm.Forward(x, w, b, eps, y, mean, rstd);

    public static void Backward(Tensor dy, Tensor x, Tensor w, Tensor mean, Tensor rstd, Tensor? dx, Tensor? dw, Tensor? db, bool addX) =>
        s_norm.Backward(dy, x, w, mean, rstd, dx, dw, db, addX);
}
