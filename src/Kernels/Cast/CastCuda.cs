using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class CastCuda
{
    private static readonly KernelFamily<Params> s_cast = new("cast", "cast");

    public static void Run(Tensor x, Tensor y)
    {
        if (x.DType == DType.F64)
        {
            throw new NotSupportedException($"{x.Device.Name} converts f32, bf16 and f16, not f64; convert on the cpu first");
        }

        if (x.DType == y.DType)
        {
            x.Device.Copy(x.Pointer, y.Pointer, x.ByteLength);
            return;
        }

        bool vectors = CudaLaunch.Aligned(x.Pointer) && CudaLaunch.Aligned(y.Pointer);
        s_cast.Launch(
            x.Device,
            y.DType,
            CudaLaunch.Elements(x.Elements, y.DType, vectors),
            new Params { X = x.Pointer, Y = y.Pointer, Count = x.Elements, XType = (int)x.DType, Vectors = vectors ? 1 : 0 },
            new KernelWork(x.ByteLength + y.ByteLength));
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint X;
        public nint Y;
        public long Count;
        public int XType;
        public int Vectors;
    }
}
