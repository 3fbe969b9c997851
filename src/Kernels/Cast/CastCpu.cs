using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

internal static unsafe class CastCpu
{
    public static void Run(Tensor x, Tensor y)
    {
        if (x.DType == y.DType)
        {
            x.Device.Copy(x.Pointer, y.Pointer, x.ByteLength);
        }
        else if (x.DType == DType.F64)
        {
            Run<double>(x, y);
        }
        else
        {
            Run<float>(x, y);
        }
    }

    // T holds every x exactly, so the only rounding is the last.
    private static void Run<T>(Tensor x, Tensor y)
        where T : unmanaged
    {
        var state = new State { X = new FloatRows(x), Y = new FloatRows(y) };
        CpuParallel.ForRange(x.Elements, RowLoop.ElementGrain, state, static (s, begin, end) =>
        {
            using ScratchBuffer<T> scratch = Scratch.Rent<T>(RowLoop.Block);
            for (long i = begin; i < end; i += RowLoop.Block)
            {
                int count = (int)Math.Min(RowLoop.Block, end - i);
                s.Y.Write(s.X.Read(i, count, s.Y.Target(i, scratch.Pointer)), i, count);
            }
        });
    }

    private struct State
    {
        public FloatRows X;
        public FloatRows Y;
    }
}
