using System.Numerics;
using System.Runtime.CompilerServices;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

internal static unsafe class RopeCpu
{
    public static void Apply(Tensor x, Tensor cos, Tensor sin, Tensor positions, bool inverse, Tensor y)
    {
        CheckPositions(positions, cos.Shape[0]);
        if (x.Elements == 0)
        {
            return;
        }

        if (x.DType == DType.F64)
        {
            Run<double>(x, cos, sin, positions, inverse, y);
        }
        else
        {
            Run<float>(x, cos, sin, positions, inverse, y);
        }
    }

    private static void CheckPositions(Tensor positions, int count)
    {
        ReadOnlySpan<int> values = positions.Span<int>();
        int bad = values.IndexOfAnyExceptInRange(0, count - 1);
        if (bad >= 0)
        {
            throw new ArgumentOutOfRangeException(
                nameof(positions), values[bad], $"Rope.Apply: position {values[bad]} is outside the table of {count} positions");
        }
    }

    private static void Run<T>(Tensor x, Tensor cos, Tensor sin, Tensor positions, bool inverse, Tensor y)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        var state = new State
        {
            X = new FloatRows(x),
            Y = new FloatRows(y),
            XStrides = x.Strides,
            YStrides = y.Strides,
            Cos = cos.Pointer,
            Sin = sin.Pointer,
            Positions = positions.Pointer,
            Tokens = x.Shape[1],
            Heads = x.Shape[2],
            Width = x.Shape[3],
            Inverse = inverse,
        };
        long rows = (long)x.Shape[0] * state.Tokens;
        CpuParallel.ForRange(rows, RowLoop.Grain((long)state.Heads * state.Width), state, static (s, begin, end) =>
        {
            int half = s.Width / 2;
            using ScratchBuffer<T> scratch = Scratch.Rent<T>(2L * s.Width);
            for (long row = begin; row < end; row++)
            {
                (long batch, long token) = Math.DivRem(row, s.Tokens);
                long fromX = (batch * s.XStrides[0]) + (token * s.XStrides[1]);
                long fromY = (batch * s.YStrides[0]) + (token * s.YStrides[1]);
                long table = (long)((int*)s.Positions)[row] * half;
                for (int head = 0; head < s.Heads; head++, fromX += s.XStrides[2], fromY += s.YStrides[2])
                {
                    T* x = s.X.Read(fromX, s.Width, scratch.Pointer);
                    T* y = s.Y.Target(fromY, scratch.Pointer + s.Width);
                    Rotate(x, (T*)s.Cos + table, (T*)s.Sin + table, s.Inverse, y, half);
                    s.Y.Write(y, fromY, s.Width);
                }
            }
        });
    }

    private static void Rotate<T>(T* x, T* cos, T* sin, bool inverse, T* y, int half)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int step = Vector<T>.Count;
        Vector<T> sign = inverse ? -Vector<T>.One : Vector<T>.One;
        int i = 0;
        for (; i <= half - step; i += step)
        {
            Pair(
                Vector.Load(x + i), Vector.Load(x + half + i), Vector.Load(cos + i), Vector.Load(sin + i) * sign, out Vector<T> first, out Vector<T> second);
            Vector.Store(first, y + i);
            Vector.Store(second, y + half + i);
        }

        if (i < half)
        {
            int rest = half - i;
            Pair(
                ElementLoop.Partial(x + i, rest),
                ElementLoop.Partial(x + half + i, rest),
                ElementLoop.Partial(cos + i, rest),
                ElementLoop.Partial(sin + i, rest) * sign,
                out Vector<T> first,
                out Vector<T> second);
            ElementLoop.StorePartial(first, y + i, rest);
            ElementLoop.StorePartial(second, y + half + i, rest);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Pair<T>(Vector<T> a, Vector<T> b, Vector<T> cos, Vector<T> sin, out Vector<T> first, out Vector<T> second)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        first = (a * cos) - (b * sin);
        second = (b * cos) + (a * sin);
    }

    private struct State
    {
        public FloatRows X;
        public FloatRows Y;
        public Strides XStrides;
        public Strides YStrides;
        public nint Cos;
        public nint Sin;
        public nint Positions;
        public int Tokens;
        public int Heads;
        public int Width;
        public bool Inverse;
    }
}
