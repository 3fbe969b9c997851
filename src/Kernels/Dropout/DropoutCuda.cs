using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class DropoutCuda
{
    private static readonly KernelFamily<Params> s_dropout = new("dropout", "dropout");

    public static void Apply(Tensor x, float p, DropoutKey key, Tensor y)
    {
        bool vectors = CudaLaunch.Aligned(x.Pointer) && CudaLaunch.Aligned(y.Pointer);
        s_dropout.Launch(
            x.Device,
            x.DType,
            CudaLaunch.Elements(x.Elements, x.DType, vectors),
            new Params
            {
                X = x.Pointer,
                Y = y.Pointer,
                Step = CudaLaunch.PointerOf(key.Step),
                Seed = key.Seed,
                Stream = key.Stream,
                Count = x.Elements,
                Threshold = Dropout.Threshold(p),
                Scale = (float)(1.0 / (1.0 - p)),
                Vectors = vectors ? 1 : 0,
            },
            new KernelWork(2 * x.ByteLength, x.Elements));
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint X;
        public nint Y;
        public nint Step;
        public ulong Seed;
        public ulong Stream;
        public long Count;
        public uint Threshold;
        public float Scale;
        public int Vectors;
    }
}
