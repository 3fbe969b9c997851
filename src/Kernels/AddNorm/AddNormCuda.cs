using Engine.Tensors;

namespace Engine.Kernels;

internal static class AddNormCuda
{
    private static readonly RowNormCuda s_rms = new("addnorm", "addnorm_rms");
    private static readonly RowNormCuda s_layer = new("addnorm", "addnorm_layer");

    public static void RmsNorm(Tensor x, Tensor d, Tensor w, float eps, Tensor s, Tensor y, Tensor? rstd)
    {
        if (!s_rms.TryForwardOfSum(x, d, w, null, eps, s, y, null, rstd))
        {
            ElementwiseCuda.Add(x, d, s);
            RmsNormCuda.Forward(s, w, eps, y, rstd);
        }
    }

    public static void LayerNorm(
        Tensor x, Tensor d, Tensor w, Tensor? b, float eps, Tensor s, Tensor y, Tensor? mean, Tensor? rstd)
    {
        if (!s_layer.TryForwardOfSum(x, d, w, b, eps, s, y, mean, rstd))
        {
            ElementwiseCuda.Add(x, d, s);
            LayerNormCuda.Forward(s, w, b, eps, y, mean, rstd);
        }
    }
}
