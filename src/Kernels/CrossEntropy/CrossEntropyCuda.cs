using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class CrossEntropyCuda
{
    private static readonly KernelFamily<ForwardParams> s_forward = new("crossentropy", "crossentropy_fwd");

    public static void Forward(
        Device device, RowMatrix logits, Tensor labels, Tensor losses, RowMatrix dLogits, float scale, Tensor? gradScale)
    {
        int pack = 16 / logits.DType.Size();
        long bytes = (long)logits.Columns * (logits.DType.Size() + (dLogits.Exists ? dLogits.DType.Size() : 0));
        s_forward.Launch(
            device,
            logits.DType,
            LaunchShape.Blocks(logits.Rows, CudaLaunch.ThreadsFor(CudaLaunch.CeilDiv(logits.Columns, pack))),
            new ForwardParams
            {
                X = logits.Address,
                Labels = labels.Pointer,
                Losses = losses.Pointer,
                Gradient = dLogits.Address,
                GradScale = CudaLaunch.PointerOf(gradScale),
                Stride = logits.Stride,
                GradientStride = dLogits.Stride,
                Columns = logits.Columns,
                GradientType = dLogits.Exists ? KernelTypes.Code("crossentropy", device, dLogits.DType) : 0,
                Scale = scale,
            },
            new KernelWork(logits.Rows * (bytes + 8), (long)logits.Rows * logits.Columns * (dLogits.Exists ? 7 : 4)));
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ForwardParams
    {
        public nint X;
        public nint Labels;
        public nint Losses;
        public nint Gradient;
        public nint GradScale;
        public long Stride;
        public long GradientStride;
        public int Columns;
        public int GradientType;
        public float Scale;
    }
}
