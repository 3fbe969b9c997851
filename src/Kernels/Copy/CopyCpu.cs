using System.Runtime.CompilerServices;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

internal static unsafe class CopyCpu
{
    public static void Run(Tensor x, Tensor y)
    {
        if (x.Elements == 0)
        {
            return;
        }

        if (x.IsContiguous && y.IsContiguous)
        {
            x.Device.Copy(x.Pointer, y.Pointer, x.ByteLength);
            return;
        }

        State state = Collapse(x, y);
        long rows = x.Elements / state.Width;
        CpuParallel.ForRange(rows, RowLoop.Grain(state.Width), state, static (s, begin, end) =>
        {
            for (long row = begin; row < end; row++)
            {
                long rest = row;
                long from = 0;
                long to = 0;
                for (int d = s.Outer - 1; d >= 0; d--)
                {
                    (rest, long index) = Math.DivRem(rest, s.Extents[d]);
                    from += index * s.FromStrides[d];
                    to += index * s.ToStrides[d];
                }

                Row(s, (byte*)s.From + (from * s.Size), (byte*)s.To + (to * s.Size));
            }
        });
    }

    // Joins neighbouring dimensions that both tensors step through evenly: long runs instead of short ones.
    private static State Collapse(Tensor x, Tensor y)
    {
        var state = new State { From = x.Pointer, To = y.Pointer, Size = x.DType.Size(), Width = 1, FromStep = 1, ToStep = 1 };
        int count = 0;
        for (int d = 0; d < x.Shape.Rank; d++)
        {
            int extent = x.Shape[d];
            if (extent == 1)
            {
                continue;
            }

            int last = count - 1;
            if (count > 0
                && state.FromStrides[last] == x.Strides[d] * extent
                && state.ToStrides[last] == y.Strides[d] * extent)
            {
                state.Extents[last] *= extent;
            }
            else
            {
                last = count++;
                state.Extents[last] = extent;
            }

            state.FromStrides[last] = x.Strides[d];
            state.ToStrides[last] = y.Strides[d];
        }

        if (count > 0)
        {
            state.Outer = count - 1;
            state.Width = state.Extents[count - 1];
            state.FromStep = state.FromStrides[count - 1];
            state.ToStep = state.ToStrides[count - 1];
        }

        return state;
    }

    private static void Row(in State s, byte* from, byte* to)
    {
        if (s.FromStep == 1 && s.ToStep == 1)
        {
            Buffer.MemoryCopy(from, to, s.Width * s.Size, s.Width * s.Size);
            return;
        }

        switch (s.Size)
        {
            case 1:
                Elements(from, to, s);
                break;
            case 2:
                Elements((ushort*)from, (ushort*)to, s);
                break;
            case 4:
                Elements((uint*)from, (uint*)to, s);
                break;
            default:
                Elements((ulong*)from, (ulong*)to, s);
                break;
        }
    }

    private static void Elements<T>(T* from, T* to, in State s)
        where T : unmanaged
    {
        long fromStep = s.FromStep;
        long toStep = s.ToStep;
        for (long i = s.Width; i > 0; i--, from += fromStep, to += toStep)
        {
            *to = *from;
        }
    }

    private struct State
    {
        public nint From;
        public nint To;
        public int Size;
        public int Outer;
        public long Width;
        public long FromStep;
        public long ToStep;
        public Values Extents;
        public Values FromStrides;
        public Values ToStrides;
    }

    [InlineArray(Shape.MaxRank)]
    private struct Values
    {
        private long _first;
    }
}
