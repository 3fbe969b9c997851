using System.Numerics;
using System.Runtime.CompilerServices;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

internal static unsafe class ElementwiseCpu
{
    public static void Add(Tensor a, Tensor b, Tensor y) => ElementLoop.RunRows(default(AddOp), a, b, null, y);

    public static void Multiply(Tensor a, Tensor b, Tensor y) => ElementLoop.RunRows(default(MultiplyOp), a, b, null, y);

    public static void Scale(Tensor x, float s, Tensor y) => ElementLoop.Run(new ScaleOp(new Constant(s)), x, null, null, y);

    public static void AddScaled(Tensor y, Tensor x, float s) => ElementLoop.Run(new AddScaledOp(new Constant(s)), y, x, null, y);

    public static void AddBias(Tensor x, Tensor bias) => WithColumns(default(AddOp), x, bias, x);

    public static void ScaleColumns(Tensor x, Tensor s, Tensor y) => WithColumns(default(MultiplyOp), x, s, y);

    public static void BiasGradient(Tensor dy, Tensor dBias)
    {
        if (Wide(dy, dBias))
        {
            BiasGradient<double>(dy, dBias);
        }
        else
        {
            BiasGradient<float>(dy, dBias);
        }
    }

    private static bool Wide(Tensor x, Tensor columns) => x.DType == DType.F64 || columns.DType == DType.F64;

    private static void WithColumns<TOp>(TOp op, Tensor x, Tensor columns, Tensor y)
        where TOp : unmanaged, IElementOp
    {
        if (Wide(x, columns))
        {
            WithColumns<double, TOp>(op, x, columns, y);
        }
        else
        {
            WithColumns<float, TOp>(op, x, columns, y);
        }
    }

    // y[r, c] = op(x[r, c], columns[c])
    private static void WithColumns<T, TOp>(TOp op, Tensor x, Tensor columns, Tensor y)
        where T : unmanaged, IFloatingPointIeee754<T>
        where TOp : unmanaged, IElementOp
    {
        int width = Check.Columns(x);
        if (x.Elements == 0)
        {
            return;
        }

        var state = new ColumnState<TOp>
        {
            Op = op,
            X = new FloatRows(x),
            Columns = new FloatRows(columns),
            Y = new FloatRows(y),
            Width = width,
            XStride = Check.RowStride(x),
            YStride = Check.RowStride(y),
        };
        CpuParallel.ForRange(Check.Rows(x), RowLoop.Grain(width), state, static (s, begin, end) =>
        {
            using ScratchBuffer<T> scratch = Scratch.Rent<T>(3L * s.Width);
            T* columns = s.Columns.Read(0, s.Width, scratch.Pointer);
            T* forX = scratch.Pointer + s.Width;
            T* forY = forX + s.Width;
            for (long row = begin; row < end; row++)
            {
                T* x = s.X.Read(row * s.XStride, s.Width, forX);
                T* y = s.Y.Target(row * s.YStride, forY);
                ElementLoop.Map(s.Op, x, columns, null, y, null, s.Width);
                s.Y.Write(y, row * s.YStride, s.Width);
            }
        });
    }

    private static void BiasGradient<T>(Tensor dy, Tensor dBias)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int width = Check.Columns(dy);
        if (dy.Elements == 0)
        {
            return;
        }

        var sums = new ColumnSums<T>(Check.Rows(dy), width);
        using ScratchBuffer<T> partials = Scratch.Rent<T>(sums.PartialElements);
        var state = new GradientState { Y = new FloatRows(dy), Partials = (nint)partials.Pointer, Width = width, Stride = Check.RowStride(dy), Rows = sums.Rows };
        CpuParallel.ForRange(sums.Rows, sums.ChunkRows, state, static (s, begin, end) =>
        {
            using ScratchBuffer<T> scratch = Scratch.Rent<T>(s.Width);
            T* partial = new ColumnSums<T>(s.Rows, s.Width).Partial((T*)s.Partials, begin);
            for (long row = begin; row < end; row++)
            {
                T* y = s.Y.Read(row * s.Stride, s.Width, scratch.Pointer);
                ElementLoop.Map(default(AddOp), partial, y, null, partial, null, s.Width);
            }
        });
        sums.AddTo(partials.Pointer, new FloatRows(dBias));
    }

    internal readonly struct AddOp : IElementOp
    {
        public static int Inputs => 2;

        public static int Outputs => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            y = a + b;
            z = default;
        }
    }

    private readonly struct MultiplyOp : IElementOp
    {
        public static int Inputs => 2;

        public static int Outputs => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            y = a * b;
            z = default;
        }
    }

    private readonly struct ScaleOp(Constant s) : IElementOp
    {
        public static int Inputs => 1;

        public static int Outputs => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            y = a * s.Vector<T>();
            z = default;
        }
    }

    private readonly struct AddScaledOp(Constant s) : IElementOp
    {
        public static int Inputs => 2;

        public static int Outputs => 1;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
            where T : unmanaged, IFloatingPointIeee754<T>
        {
            y = VectorMath.MultiplyAdd(b, s.Vector<T>(), a);
            z = default;
        }
    }

    private struct ColumnState<TOp>
    {
        public TOp Op;
        public FloatRows X;
        public FloatRows Columns;
        public FloatRows Y;
        public int Width;
        public long XStride;
        public long YStride;
    }

    private struct GradientState
    {
        public FloatRows Y;
        public nint Partials;
        public long Rows;
        public int Width;
        public long Stride;
    }
}
