using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class SwiGluCuda
{
    private static readonly KernelFamily<Params> s_forward = new("swiglu", "swiglu_fwd");
    private static readonly KernelFamily<Params> s_backward = new("swiglu", "swiglu_bwd");

    public static void Forward(Tensor gate, Tensor up, Tensor y) => Run(s_forward, null, gate, up, y, null, 3);

    public static void Backward(Tensor dy, Tensor gate, Tensor up, Tensor dGate, Tensor dUp) => Run(s_backward, dy, gate, up, dGate, dUp, 5);

    private static void Run(KernelFamily<Params> family, Tensor? dy, Tensor gate, Tensor up, Tensor y, Tensor? du, int passes)
    {
        (long rows, long columns, bool vectors) = CudaLaunch.Rows(dy, gate, up, y, du);
        family.Launch(
            gate.Device,
            gate.DType,
            CudaLaunch.Elements(gate.Elements, gate.DType, vectors),
            new Params
            {
                Dy = CudaLaunch.PointerOf(dy),
                Gate = gate.Pointer,
                Up = up.Pointer,
                Y = y.Pointer,
                Du = CudaLaunch.PointerOf(du),
                Rows = rows,
                Columns = columns,
                DyStride = CudaLaunch.RowStride(dy),
                GateStride = CudaLaunch.RowStride(gate),
                UpStride = CudaLaunch.RowStride(up),
                YStride = CudaLaunch.RowStride(y),
                DuStride = CudaLaunch.RowStride(du),
                Vectors = vectors ? 1 : 0,
            },
            new KernelWork(passes * gate.ByteLength, 4 * passes * gate.Elements));
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint Dy;
        public nint Gate;
        public nint Up;
        public nint Y;
        public nint Du;
        public long Rows;
        public long Columns;
        public long DyStride;
        public long GateStride;
        public long UpStride;
        public long YStride;
        public long DuStride;
        public int Vectors;
    }
}
