using System.Numerics;
using System.Runtime.CompilerServices;
using Engine.Kernels.Cpu;
using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>Whether a normalisation subtracts the mean (LayerNorm) or not (RMSNorm).</summary>
internal interface ICentering
{
    static abstract bool Centered { get; }
}

/// <summary>
/// The rows of LayerNorm and RMSNorm. With x̂ = (x − mean)·rstd (mean = 0 when not centered): y = x̂·w + b. Backward with
/// g = dy·w: dx = rstd·(g − Σg∕C − x̂·Σ(g·x̂)∕C), where the Σg term belongs to the mean; dw = Σᵣ dy·x̂, db = Σᵣ dy.
/// </summary>
internal static unsafe class RowNorm<T, TCentering>
    where T : unmanaged, IFloatingPointIeee754<T>
    where TCentering : struct, ICentering
{
    /// <summary>Of x, or of s = x + d rounded to the storage dtype where d and s are given.</summary>
    public static void Forward(
        Tensor x, Tensor? d, Tensor? s, Tensor w, Tensor? b, float eps, Tensor y, Tensor? mean, Tensor? rstd)
    {
        if (x.Elements == 0)
        {
            return;
        }

        var state = new ForwardState
        {
            X = new FloatRows(x),
            D = FloatRows.Optional(d),
            S = FloatRows.Optional(s),
            W = new FloatRows(w),
            B = FloatRows.Optional(b),
            Y = new FloatRows(y),
            Mean = mean?.Pointer ?? 0,
            Rstd = rstd?.Pointer ?? 0,
            Eps = eps,
            Width = Check.Columns(x),
            XStride = Check.RowStride(x),
            DStride = d is null ? 0 : Check.RowStride(d),
            YStride = Check.RowStride(y),
        };
        CpuParallel.ForRange(Check.Rows(x), RowLoop.Grain(state.Width), state, static (s, begin, end) =>
        {
            int width = s.Width;
            using ScratchBuffer<T> scratch = Scratch.Rent<T>(5L * width);
            T* w = s.W.Read(0, width, scratch.Pointer);
            T* b = s.B.Exists ? s.B.Read(0, width, scratch.Pointer + width) : null;
            for (long row = begin; row < end; row++)
            {
                T* x = s.X.Read(row * s.XStride, width, scratch.Pointer + (2L * width));
                if (s.S.Exists)
                {
                    x = Sum(s, row, x, scratch.Pointer + (3L * width), scratch.Pointer + (4L * width));
                }

                T* y = s.Y.Target(row * s.YStride, scratch.Pointer + (3L * width));
                ForwardRow(s, row, x, w, b, y);
                s.Y.Write(y, row * s.YStride, width);
            }
        });
    }

    public static void Backward(Tensor dy, Tensor x, Tensor w, Tensor? mean, Tensor rstd, Tensor? dx, Tensor? dw, Tensor? db, bool addX)
    {
        if (x.Elements == 0 || (dx is null && dw is null && db is null))
        {
            return;
        }

        int width = Check.Columns(x);
        bool weights = dw is not null || db is not null;
        var sums = new ColumnSums<T>(Check.Rows(x), 2 * width);
        using ScratchBuffer<T> partials = Scratch.Rent<T>(weights ? sums.PartialElements : 0);
        var state = new BackwardState
        {
            Dy = new FloatRows(dy),
            X = new FloatRows(x),
            W = new FloatRows(w),
            Dx = FloatRows.Optional(dx),
            Mean = mean?.Pointer ?? 0,
            Rstd = rstd.Pointer,
            Partials = weights ? (nint)partials.Pointer : 0,
            Sums = sums,
            Width = width,
            DxStride = dx is null ? 0 : Check.RowStride(dx),
            AddX = addX,
        };
        CpuParallel.ForRange(sums.Rows, sums.ChunkRows, state, static (s, begin, end) => BackwardChunk(s, begin, end));
        if (dw is not null)
        {
            sums.AddTo(partials.Pointer, new FloatRows(dw), 0, width);
        }

        if (db is not null)
        {
            sums.AddTo(partials.Pointer, new FloatRows(db), width, width);
        }
    }

    // x + d as it is stored.
    private static T* Sum(in ForwardState s, long row, T* x, T* scratch, T* result)
    {
        int width = s.Width;
        T* d = s.D.Read(row * s.DStride, width, scratch);
        T* sum = s.S.Target(row * width, result);
        ElementLoop.Map(default(ElementwiseCpu.AddOp), x, d, null, sum, null, width);
        s.S.Write(sum, row * width, width);
        return s.S.Read(row * width, width, result);
    }

    private static void ForwardRow(in ForwardState s, long row, T* x, T* w, T* b, T* y)
    {
        int width = s.Width;
        T count = T.CreateChecked(width);
        T mean = T.Zero;
        if (TCentering.Centered)
        {
            mean = RowSum.Of(default(Value), x, null, width) / count;
            if (s.Mean != 0)
            {
                ((T*)s.Mean)[row] = mean;
            }
        }

        T variance = RowSum.Of(new CenteredSquare(Constant.Of(mean)), x, null, width) / count;
        T rstd = T.One / T.Sqrt(variance + T.CreateChecked(s.Eps));
        if (s.Rstd != 0)
        {
            ((T*)s.Rstd)[row] = rstd;
        }

        var normalize = new Normalize(Constant.Of(mean), Constant.Of(rstd));
        if (b == null)
        {
            ElementLoop.Map(normalize, x, w, null, y, null, width);
        }
        else
        {
            ElementLoop.Map(new NormalizeAndShift(normalize), x, w, b, y, null, width);
        }
    }

    private static void BackwardChunk(in BackwardState s, long begin, long end)
    {
        int width = s.Width;
        using ScratchBuffer<T> scratch = Scratch.Rent<T>(7L * width);
        T* w = s.W.Read(0, width, scratch.Pointer);

        // Without a wish for them the sums go to scratch that nobody reads.
        T* sums = s.Partials != 0 ? s.Sums.Partial((T*)s.Partials, begin) : scratch.Pointer + (4L * width);
        new Span<T>(sums, 2 * width).Clear();
        for (long row = begin; row < end; row++)
        {
            T* dy = s.Dy.Read(row * width, width, scratch.Pointer + width);
            T* x = s.X.Read(row * width, width, scratch.Pointer + (2L * width));
            T mean = TCentering.Centered ? ((T*)s.Mean)[row] : T.Zero;
            T rstd = ((T*)s.Rstd)[row];
            Accumulate(dy, x, w, mean, rstd, sums, sums + width, width, out T meanG, out T meanGx);
            if (s.Dx.Exists)
            {
                long at = row * s.DxStride;
                var op = new InputGradient(Constant.Of(mean), Constant.Of(rstd), Constant.Of(meanG), Constant.Of(meanGx));
                if (s.AddX)
                {
                    // dx itself may be the compute dtype's own memory: the new part goes to scratch first.
                    T* part = scratch.Pointer + (6L * width);
                    ElementLoop.Map(op, dy, x, w, part, null, width);
                    T* old = s.Dx.Read(at, width, scratch.Pointer + (3L * width));
                    ElementLoop.Map(default(ElementwiseCpu.AddOp), part, old, null, old, null, width);
                    s.Dx.Write(old, at, width);
                    continue;
                }

                T* dx = s.Dx.Target(at, scratch.Pointer + (3L * width));
                ElementLoop.Map(op, dy, x, w, dx, null, width);
                s.Dx.Write(dx, at, width);
            }
        }
    }

    // The row's two means, and its share of dw and db. Lanes past the end are zero in dy and so in every term.
    private static void Accumulate(T* dy, T* x, T* w, T mean, T rstd, T* dw, T* db, int width, out T meanG, out T meanGx)
    {
        int step = Vector<T>.Count;
        var means = new Vector<T>(mean);
        var rstds = new Vector<T>(rstd);
        Vector<T> sumG = default;
        Vector<T> sumGx = default;
        int i = 0;
        for (; i <= width - step; i += step)
        {
            Vector<T> d = Vector.Load(dy + i);
            Vector<T> normalized = (Vector.Load(x + i) - means) * rstds;
            Vector<T> g = d * Vector.Load(w + i);
            sumG += g;
            sumGx = VectorMath.MultiplyAdd(g, normalized, sumGx);
            Vector.Store(VectorMath.MultiplyAdd(d, normalized, Vector.Load(dw + i)), dw + i);
            Vector.Store(Vector.Load(db + i) + d, db + i);
        }

        if (i < width)
        {
            int rest = width - i;
            Vector<T> d = ElementLoop.Partial(dy + i, rest);
            Vector<T> normalized = (ElementLoop.Partial(x + i, rest) - means) * rstds;
            Vector<T> g = d * ElementLoop.Partial(w + i, rest);
            sumG += g;
            sumGx = VectorMath.MultiplyAdd(g, normalized, sumGx);
            ElementLoop.StorePartial(VectorMath.MultiplyAdd(d, normalized, ElementLoop.Partial(dw + i, rest)), dw + i, rest);
            ElementLoop.StorePartial(ElementLoop.Partial(db + i, rest) + d, db + i, rest);
        }

        T count = T.CreateChecked(width);
        meanG = TCentering.Centered ? Vector.Sum(sumG) / count : T.Zero;
        meanGx = Vector.Sum(sumGx) / count;
    }

    private struct ForwardState
    {
        public FloatRows X;
        public FloatRows D;
        public FloatRows S;
        public FloatRows W;
        public FloatRows B;
        public FloatRows Y;
        public nint Mean;
        public nint Rstd;
        public float Eps;
        public int Width;
        public long XStride;
        public long DStride;
        public long YStride;
    }

    private struct BackwardState
    {
        public FloatRows Dy;
        public FloatRows X;
        public FloatRows W;
        public FloatRows Dx;
        public nint Mean;
        public nint Rstd;
        public nint Partials;
        public ColumnSums<T> Sums;
        public int Width;
        public long DxStride;
        public bool AddX;
    }
}

internal readonly struct Value : ITerm
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector<T> Invoke<T>(Vector<T> a, Vector<T> b)
        where T : unmanaged, IFloatingPointIeee754<T> => a;
}

internal readonly struct CenteredSquare(Constant mean) : ITerm
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector<T> Invoke<T>(Vector<T> a, Vector<T> b)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        Vector<T> distance = a - mean.Vector<T>();
        return distance * distance;
    }
}

/// <summary>(x − mean)·rstd·w</summary>
internal readonly struct Normalize(Constant mean, Constant rstd) : IElementOp
{
    public static int Inputs => 2;

    public static int Outputs => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        y = (a - mean.Vector<T>()) * rstd.Vector<T>() * b;
        z = default;
    }
}

/// <summary>(x − mean)·rstd·w + b</summary>
internal readonly struct NormalizeAndShift(Normalize normalize) : IElementOp
{
    public static int Inputs => 3;

    public static int Outputs => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        normalize.Invoke(a, b, c, out y, out z);
        y += c;
    }
}

/// <summary>rstd·(dy·w − meanG − x̂·meanGx)</summary>
internal readonly struct InputGradient(Constant mean, Constant rstd, Constant meanG, Constant meanGx) : IElementOp
{
    public static int Inputs => 3;

    public static int Outputs => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Invoke<T>(Vector<T> a, Vector<T> b, Vector<T> c, out Vector<T> y, out Vector<T> z)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        Vector<T> normalized = (b - mean.Vector<T>()) * rstd.Vector<T>();
        Vector<T> difference = (a * c) - meanG.Vector<T>() - (normalized * meanGx.Vector<T>());
        y = difference * rstd.Vector<T>();
        z = default;
    }
}
