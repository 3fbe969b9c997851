using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class RmsNormCuda
{
    private static readonly KernelFamily<ForwardParams> s_forward = new("rmsnorm", "rmsnorm_fwd");

    public static void Forward(Tensor x, Tensor w, float eps, Tensor y, Tensor? rstd)
    {
        long rows = Check.Rows(x);
        int columns = Check.Columns(x);
        bool vectors = CudaLaunch.AlignedRows(x, columns) && CudaLaunch.AlignedRows(y, columns) && CudaLaunch.Aligned(w.Pointer);
        int items = vectors ? columns * x.DType.Size() / 16 : columns;
        s_forward.Launch(
            x.Device,
            x.DType,
            LaunchShape.Blocks(rows, CudaLaunch.ThreadsFor(items)),
            new ForwardParams
            {
                X = x.Pointer,
                W = w.Pointer,
                Y = y.Pointer,
                Rstd = CudaLaunch.PointerOf(rstd),
                Rows = rows,
                Columns = columns,
                WType = (int)w.DType,
                Eps = eps,
                Vectors = vectors ? 1 : 0,
            },
            new KernelWork((2 * x.ByteLength) + w.ByteLength + (rstd?.ByteLength ?? 0), 4 * x.Elements));
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ForwardParams
    {
        public nint X;
        public nint W;
        public nint Y;
        public nint Rstd;
        public long Rows;
        public int Columns;
        public int WType;
        public float Eps;
        public int Vectors;
    }
}
