using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>The low-rank path on the CPU: skinny products through <see cref="CpuGemm"/> with s in the compute dtype between them.</summary>
internal static unsafe partial class LowRankCpu
{
    /// <summary>The arguments have been checked; <paramref name="s"/> may be absent.</summary>
    public static void Forward(RowMatrix x, RowMatrix a, RowMatrix b, float scale, RowMatrix y, RowMatrix s)
    {
        if (x.DType == DType.F64)
        {
            Forward<double>(x, a, b, scale, y, s);
        }
        else
        {
            Forward<float>(x, a, b, scale, y, s);
        }
    }

    /// <summary>The arguments have been checked; gradients may be absent.</summary>
    public static void Backward(
        RowMatrix dy, RowMatrix x, RowMatrix a, RowMatrix b, RowMatrix s, float scale, RowMatrix dx, RowMatrix dA, RowMatrix dB)
    {
        if (x.DType == DType.F64)
        {
            Backward<double>(dy, x, a, b, s, scale, dx, dA, dB);
        }
        else
        {
            Backward<float>(dy, x, a, b, s, scale, dx, dA, dB);
        }
    }

    private static void Forward<T>(RowMatrix x, RowMatrix a, RowMatrix b, float scale, RowMatrix y, RowMatrix s)
        where T : unmanaged
    {
        bool inPlace = s.Exists && s.DType == DTypes.Of<T>();
        using ScratchBuffer<T> buffer = Scratch.Rent<T>(inPlace ? 0 : (long)x.Rows * a.Rows);
        RowMatrix exact = inPlace ? s : RowMatrix.Over(buffer.Pointer, x.Rows, a.Rows);
        Product(x, false, a, true, exact, scale, accumulate: false);
        Product(exact, false, b, true, y, 1, accumulate: true);
        if (s.Exists && !inPlace)
        {
            for (int i = 0; i < s.Rows; i++)
            {
                FloatConvert.Store(buffer.Pointer + ((long)i * s.Columns), s.DType, s.Slice(i, 1).Pointer, s.Columns);
            }
        }
    }

    private static void Backward<T>(
        RowMatrix dy, RowMatrix x, RowMatrix a, RowMatrix b, RowMatrix s, float scale, RowMatrix dx, RowMatrix dA, RowMatrix dB)
        where T : unmanaged
    {
        if (dB.Exists)
        {
            Product(dy, true, s, false, dB, 1, accumulate: true);
        }

        if (!dx.Exists && !dA.Exists)
        {
            return;
        }

        using ScratchBuffer<T> buffer = Scratch.Rent<T>((long)x.Rows * a.Rows);
        RowMatrix ds = RowMatrix.Over(buffer.Pointer, x.Rows, a.Rows);
        Product(dy, false, b, false, ds, scale, accumulate: false);
        if (dx.Exists)
        {
            Product(ds, false, a, false, dx, 1, accumulate: true);
        }

        if (dA.Exists)
        {
            Product(ds, true, x, false, dA, 1, accumulate: true);
        }
    }

    // c = alpha·op(a)·op(b), or c += ….
    private static void Product(RowMatrix a, bool transA, RowMatrix b, bool transB, RowMatrix c, float alpha, bool accumulate)
    {
        int k = transA ? a.Rows : a.Columns;
        float beta = accumulate ? 1 : 0;
        if (c.DType == DType.F64)
        {
            CpuGemm.Run<double>(
                transA, transB, c.Rows, c.Columns, k, alpha, (double*)a.Pointer, a.Stride, (double*)b.Pointer, b.Stride, beta,
                (double*)c.Pointer, c.Stride);
        }
        else
        {
            CpuGemm.RunMixed(
                transA, transB, c.Rows, c.Columns, k, alpha, a.DType, a.Pointer, a.Stride, b.DType, b.Pointer, b.Stride, beta,
                c.DType, c.Pointer, c.Stride);
        }
    }
}
