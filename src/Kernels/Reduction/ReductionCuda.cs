using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class ReductionCuda
{
    private static readonly KernelFamily<Params> s_sum = new("reduction", "reduction_sum");

    public static void Sum(Tensor x, float scale, Tensor y)
    {
        if (x.DType != DType.F32)
        {
            throw new NotSupportedException($"{x.Device.Name} sums f32, not {x.DType.Name()}; move the tensors to the cpu");
        }

        s_sum.Launch(
            x.Device,
            LaunchShape.Blocks(1, 1024),
            new Params { X = x.Pointer, Y = y.Pointer, Count = x.Elements, Scale = scale },
            new KernelWork(x.ByteLength + y.ByteLength, x.Elements));
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint X;
        public nint Y;
        public long Count;
        public float Scale;
    }
}
