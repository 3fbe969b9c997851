using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class RopeCuda
{
    private static readonly KernelFamily<Params> s_rope = new("rope", "rope");

    public static void Apply(Tensor x, Tensor cos, Tensor sin, Tensor positions, bool inverse, Tensor y)
    {
        if (x.Elements == 0)
        {
            return;
        }

        int half = x.Shape[3] / 2;
        int unit = 16 / x.DType.Size();
        bool vectors = half % unit == 0 && AlignedHeads(x, unit) && AlignedHeads(y, unit) && CudaLaunch.Aligned(cos.Pointer) && CudaLaunch.Aligned(sin.Pointer);
        long pairs = x.Elements / 2;
        s_rope.Launch(
            x.Device,
            x.DType,
            LaunchShape.Blocks(Math.Min(CudaLaunch.CeilDiv(vectors ? pairs / unit : pairs, 256), 132 * 32), 256),
            new Params
            {
                X = x.Pointer,
                Y = y.Pointer,
                Cos = cos.Pointer,
                Sin = sin.Pointer,
                Positions = positions.Pointer,
                XBatch = x.Strides[0],
                XToken = x.Strides[1],
                XHead = x.Strides[2],
                YBatch = y.Strides[0],
                YToken = y.Strides[1],
                YHead = y.Strides[2],
                Tokens = (long)x.Shape[0] * x.Shape[1],
                Length = x.Shape[1],
                Heads = x.Shape[2],
                Half = half,
                Sign = inverse ? -1 : 1,
                Vectors = vectors ? 1 : 0,
            },
            new KernelWork(2 * x.ByteLength, 3 * x.Elements));
    }

    private static bool AlignedHeads(Tensor x, int unit) =>
        CudaLaunch.Aligned(x.Pointer) && x.Strides[0] % unit == 0 && x.Strides[1] % unit == 0 && x.Strides[2] % unit == 0;

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint X;
        public nint Y;
        public nint Cos;
        public nint Sin;
        public nint Positions;
        public long XBatch;
        public long XToken;
        public long XHead;
        public long YBatch;
        public long YToken;
        public long YHead;
        public long Tokens;
        public int Length;
        public int Heads;
        public int Half;
        public float Sign;
        public int Vectors;
    }
}
