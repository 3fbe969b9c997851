using Engine.Tensors;

namespace Engine.Kernels;

internal static class AddNormCpu
{
    public static void RmsNorm(Tensor x, Tensor d, Tensor w, float eps, Tensor s, Tensor y, Tensor? rstd) =>
        RmsNormCpu.Forward(x, d, s, w, eps, y, rstd);

    public static void LayerNorm(
        Tensor x, Tensor d, Tensor w, Tensor? b, float eps, Tensor s, Tensor y, Tensor? mean, Tensor? rstd) =>
        LayerNormCpu.Forward(x, d, s, w, b, eps, y, mean, rstd);
}
