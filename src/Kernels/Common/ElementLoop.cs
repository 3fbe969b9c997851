using System.Numerics;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>What an elementwise op computes: up to three inputs, one or two outputs, on vectors of float or double.</summary>
internal interface IElementOp
{
    /// <summary>Number of inputs, 1 to 3; an absent input is zero.</summary>
    static abstract int Inputs { get; }

    /// <summary>Number of outputs, 1 or 2.</summary>
    static abstract int Outputs { get; }

    /// <summary>Computes one vector of elements. Lanes are independent.</summary>
    void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
        where T : unmanaged, IFloatingPointIeee754<T>;
}

/// <summary>Runs an <see cref="IElementOp"/> over whole tensors or over rows. An output may be an input.</summary>
internal static unsafe class ElementLoop
{
    /// <summary>All elements of contiguous tensors of equal length; dtypes may differ. Computes in f64 when one is f64.</summary>
    public static void Run<TOp>(TOp op, Tensor a, Tensor? b, Tensor? c, Tensor y, Tensor? z = null)
        where TOp : unmanaged, IElementOp
    {
        var state = new State<TOp>
        {
            Op = op,
            A = new FloatRows(a),
            B = FloatRows.Optional(b),
            C = FloatRows.Optional(c),
            Y = new FloatRows(y),
            Z = FloatRows.Optional(z),
        };
        bool wide = a.DType == DType.F64 || b?.DType == DType.F64 || c?.DType == DType.F64 || y.DType == DType.F64;
        Action<State<TOp>, long, long> body = wide ? Chunk<double, TOp>.Body : Chunk<float, TOp>.Body;
        CpuParallel.ForRange(y.Elements, RowLoop.ElementGrain, state, body);
    }

    /// <summary>The same for tensors of which some are matrices with gaps between their rows.</summary>
    public static void RunRows<TOp>(TOp op, Tensor a, Tensor? b, Tensor? c, Tensor y, Tensor? z = null)
        where TOp : unmanaged, IElementOp
    {
        if (a.IsContiguous && b?.IsContiguous != false && c?.IsContiguous != false && y.IsContiguous && z?.IsContiguous != false)
        {
            Run(op, a, b, c, y, z);
            return;
        }

        var state = new RowState<TOp>
        {
            Op = op,
            A = new Rows(a),
            B = new Rows(b),
            C = new Rows(c),
            Y = new Rows(y),
            Z = new Rows(z),
            Width = y.Shape[1],
        };
        bool wide = a.DType == DType.F64 || b?.DType == DType.F64 || c?.DType == DType.F64 || y.DType == DType.F64;
        CpuParallel.ForRange(y.Shape[0], RowLoop.Grain(state.Width), state, wide ? Chunk<double, TOp>.RowBody : Chunk<float, TOp>.RowBody);
    }

    /// <summary>A run of compute-type elements; pointers of absent inputs and outputs are not touched.</summary>
    public static void Map<T, TOp>(TOp op, T* a, T* b, T* c, T* y, T* z, int count)
        where T : unmanaged, IFloatingPointIeee754<T>
        where TOp : unmanaged, IElementOp
    {
        int width = Vector<T>.Count;
        int i = 0;
        for (; i <= count - width; i += width)
        {
            op.Invoke(
                Vector.Load(a + i),
                TOp.Inputs > 1 ? Vector.Load(b + i) : default,
                TOp.Inputs > 2 ? Vector.Load(c + i) : default,
                out Vector<T> first,
                out Vector<T> second);
            Vector.Store(first, y + i);
            if (TOp.Outputs > 1)
            {
                Vector.Store(second, z + i);
            }
        }

        if (i < count)
        {
            // The same vector code for the rest, so that an element's bits do not depend on where it lies.
            op.Invoke(
                Partial(a + i, count - i),
                TOp.Inputs > 1 ? Partial(b + i, count - i) : default,
                TOp.Inputs > 2 ? Partial(c + i, count - i) : default,
                out Vector<T> first,
                out Vector<T> second);
            StorePartial(first, y + i, count - i);
            if (TOp.Outputs > 1)
            {
                StorePartial(second, z + i, count - i);
            }
        }
    }

    /// <summary>The first <paramref name="count"/> lanes from memory, the others 0.</summary>
    public static Vector<T> Partial<T>(T* source, int count)
        where T : unmanaged
    {
        Vector<T> vector = default;
        new ReadOnlySpan<T>(source, count).CopyTo(new Span<T>(&vector, Vector<T>.Count));
        return vector;
    }

    /// <summary>Stores the first <paramref name="count"/> lanes.</summary>
    public static void StorePartial<T>(Vector<T> vector, T* destination, int count)
        where T : unmanaged =>
        new ReadOnlySpan<T>(&vector, count).CopyTo(new Span<T>(destination, count));

    private struct State<TOp>
    {
        public TOp Op;
        public FloatRows A;
        public FloatRows B;
        public FloatRows C;
        public FloatRows Y;
        public FloatRows Z;
    }

    // Elements of a matrix and the distance of its rows; absent tensors have neither.
    private readonly struct Rows(Tensor? tensor)
    {
        public readonly FloatRows Elements = FloatRows.Optional(tensor);
        public readonly long Stride = tensor is null ? 0 : Check.RowStride(tensor);
    }

    private struct RowState<TOp>
    {
        public TOp Op;
        public Rows A;
        public Rows B;
        public Rows C;
        public Rows Y;
        public Rows Z;
        public int Width;
    }

    private static class Chunk<T, TOp>
        where T : unmanaged, IFloatingPointIeee754<T>
        where TOp : unmanaged, IElementOp
    {
        public static readonly Action<State<TOp>, long, long> Body = Run;
        public static readonly Action<RowState<TOp>, long, long> RowBody = RunRows;

        private static void RunRows(RowState<TOp> s, long begin, long end)
        {
            using ScratchBuffer<T> scratch = Scratch.Rent<T>(5L * s.Width);
            T* free = scratch.Pointer;
            for (long row = begin; row < end; row++)
            {
                T* a = s.A.Elements.Read(row * s.A.Stride, s.Width, free);
                T* b = TOp.Inputs > 1 ? s.B.Elements.Read(row * s.B.Stride, s.Width, free + s.Width) : null;
                T* c = TOp.Inputs > 2 ? s.C.Elements.Read(row * s.C.Stride, s.Width, free + (2L * s.Width)) : null;
                T* y = s.Y.Elements.Target(row * s.Y.Stride, free + (3L * s.Width));
                T* z = TOp.Outputs > 1 ? s.Z.Elements.Target(row * s.Z.Stride, free + (4L * s.Width)) : null;
                Map(s.Op, a, b, c, y, z, s.Width);
                s.Y.Elements.Write(y, row * s.Y.Stride, s.Width);
                if (TOp.Outputs > 1)
                {
                    s.Z.Elements.Write(z, row * s.Z.Stride, s.Width);
                }
            }
        }

        private static void Run(State<TOp> s, long begin, long end)
        {
            using ScratchBuffer<T> scratch = Scratch.Rent<T>(5 * RowLoop.Block);
            T* free = scratch.Pointer;
            for (long i = begin; i < end; i += RowLoop.Block)
            {
                int count = (int)Math.Min(RowLoop.Block, end - i);
                T* a = s.A.Read(i, count, free);
                T* b = TOp.Inputs > 1 ? s.B.Read(i, count, free + RowLoop.Block) : null;
                T* c = TOp.Inputs > 2 ? s.C.Read(i, count, free + (2 * RowLoop.Block)) : null;
                T* y = s.Y.Target(i, free + (3 * RowLoop.Block));
                T* z = TOp.Outputs > 1 ? s.Z.Target(i, free + (4 * RowLoop.Block)) : null;
                Map(s.Op, a, b, c, y, z, count);
                s.Y.Write(y, i, count);
                if (TOp.Outputs > 1)
                {
                    s.Z.Write(z, i, count);
                }
            }
        }
    }
}
