using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class SiluCuda
{
    private static readonly KernelFamily<Params> s_forward = new("silu", "silu_fwd");
    private static readonly KernelFamily<Params> s_backward = new("silu", "silu_bwd");

    public static void Forward(Tensor x, Tensor y) => Run(s_forward, null, x, y);

    public static void Backward(Tensor dy, Tensor x, Tensor dx) => Run(s_backward, dy, x, dx);

    private static void Run(KernelFamily<Params> family, Tensor? dy, Tensor x, Tensor y)
    {
        (long rows, long columns, bool vectors) = CudaLaunch.Rows(dy, x, y);
        family.Launch(
            x.Device,
            x.DType,
            CudaLaunch.Elements(x.Elements, x.DType, vectors),
            new Params
            {
                Dy = CudaLaunch.PointerOf(dy),
                X = x.Pointer,
                Y = y.Pointer,
                Rows = rows,
                Columns = columns,
                DyStride = CudaLaunch.RowStride(dy),
                XStride = CudaLaunch.RowStride(x),
                YStride = CudaLaunch.RowStride(y),
                Vectors = vectors ? 1 : 0,
            },
            new KernelWork((dy is null ? 2 : 3) * x.ByteLength, 6 * x.Elements));
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint Dy;
        public nint X;
        public nint Y;
        public long Rows;
        public long Columns;
        public long DyStride;
        public long XStride;
        public long YStride;
        public int Vectors;
    }
}
