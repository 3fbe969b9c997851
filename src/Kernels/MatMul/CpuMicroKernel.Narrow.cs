using System.Runtime.CompilerServices;

namespace Engine.Kernels;

/// <content>The kernels one vector wide, for the last columns and for narrow results (the rank of an adapter).</content>
internal static unsafe partial class CpuMicroKernel<T, TVector, TSimd>
{
    /// <summary>12 rows × 1 vector.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Narrow12(nint k, T* a, nint rs, nint cs, T* b, nint bs, T* c, nint ldc, T alpha, T beta, bool accumulate)
    {
        TVector zero = TSimd.Zero;
        TVector c0 = zero, c1 = zero, c2 = zero, c3 = zero;
        TVector c4 = zero, c5 = zero, c6 = zero, c7 = zero;
        TVector c8 = zero, c9 = zero, c10 = zero, c11 = zero;
        nint rs2 = rs * 2;
        T* a3 = a + (rs * 3);
        T* a6 = a + (rs * 6);
        T* a9 = a + (rs * 9);
        for (; k > 0; k--)
        {
            TVector bx = TSimd.Load(b);
            TVector x = TSimd.Broadcast(*a);
            c0 = TSimd.Fma(x, bx, c0);
            x = TSimd.Broadcast(a[rs]);
            c1 = TSimd.Fma(x, bx, c1);
            x = TSimd.Broadcast(a[rs2]);
            c2 = TSimd.Fma(x, bx, c2);
            x = TSimd.Broadcast(*a3);
            c3 = TSimd.Fma(x, bx, c3);
            x = TSimd.Broadcast(a3[rs]);
            c4 = TSimd.Fma(x, bx, c4);
            x = TSimd.Broadcast(a3[rs2]);
            c5 = TSimd.Fma(x, bx, c5);
            x = TSimd.Broadcast(*a6);
            c6 = TSimd.Fma(x, bx, c6);
            x = TSimd.Broadcast(a6[rs]);
            c7 = TSimd.Fma(x, bx, c7);
            x = TSimd.Broadcast(a6[rs2]);
            c8 = TSimd.Fma(x, bx, c8);
            x = TSimd.Broadcast(*a9);
            c9 = TSimd.Fma(x, bx, c9);
            x = TSimd.Broadcast(a9[rs]);
            c10 = TSimd.Fma(x, bx, c10);
            x = TSimd.Broadcast(a9[rs2]);
            c11 = TSimd.Fma(x, bx, c11);
            a += cs;
            a3 += cs;
            a6 += cs;
            a9 += cs;
            b += bs;
        }

        TVector va = TSimd.Broadcast(alpha);
        TVector vb = TSimd.Broadcast(beta);
        Write(c, c0, va, vb, accumulate);
        Write(c + ldc, c1, va, vb, accumulate);
        Write(c + (ldc * 2), c2, va, vb, accumulate);
        Write(c + (ldc * 3), c3, va, vb, accumulate);
        Write(c + (ldc * 4), c4, va, vb, accumulate);
        Write(c + (ldc * 5), c5, va, vb, accumulate);
        Write(c + (ldc * 6), c6, va, vb, accumulate);
        Write(c + (ldc * 7), c7, va, vb, accumulate);
        Write(c + (ldc * 8), c8, va, vb, accumulate);
        Write(c + (ldc * 9), c9, va, vb, accumulate);
        Write(c + (ldc * 10), c10, va, vb, accumulate);
        Write(c + (ldc * 11), c11, va, vb, accumulate);
    }

    /// <summary>8 rows × 1 vector.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Narrow8(nint k, T* a, nint rs, nint cs, T* b, nint bs, T* c, nint ldc, T alpha, T beta, bool accumulate)
    {
        TVector zero = TSimd.Zero;
        TVector c0 = zero, c1 = zero, c2 = zero, c3 = zero;
        TVector c4 = zero, c5 = zero, c6 = zero, c7 = zero;
        nint rs2 = rs * 2;
        T* a3 = a + (rs * 3);
        T* a6 = a + (rs * 6);
        for (; k > 0; k--)
        {
            TVector bx = TSimd.Load(b);
            TVector x = TSimd.Broadcast(*a);
            c0 = TSimd.Fma(x, bx, c0);
            x = TSimd.Broadcast(a[rs]);
            c1 = TSimd.Fma(x, bx, c1);
            x = TSimd.Broadcast(a[rs2]);
            c2 = TSimd.Fma(x, bx, c2);
            x = TSimd.Broadcast(*a3);
            c3 = TSimd.Fma(x, bx, c3);
            x = TSimd.Broadcast(a3[rs]);
            c4 = TSimd.Fma(x, bx, c4);
            x = TSimd.Broadcast(a3[rs2]);
            c5 = TSimd.Fma(x, bx, c5);
            x = TSimd.Broadcast(*a6);
            c6 = TSimd.Fma(x, bx, c6);
            x = TSimd.Broadcast(a6[rs]);
            c7 = TSimd.Fma(x, bx, c7);
            a += cs;
            a3 += cs;
            a6 += cs;
            b += bs;
        }

        TVector va = TSimd.Broadcast(alpha);
        TVector vb = TSimd.Broadcast(beta);
        Write(c, c0, va, vb, accumulate);
        Write(c + ldc, c1, va, vb, accumulate);
        Write(c + (ldc * 2), c2, va, vb, accumulate);
        Write(c + (ldc * 3), c3, va, vb, accumulate);
        Write(c + (ldc * 4), c4, va, vb, accumulate);
        Write(c + (ldc * 5), c5, va, vb, accumulate);
        Write(c + (ldc * 6), c6, va, vb, accumulate);
        Write(c + (ldc * 7), c7, va, vb, accumulate);
    }

    /// <summary>6 rows × 1 vector.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Narrow6(nint k, T* a, nint rs, nint cs, T* b, nint bs, T* c, nint ldc, T alpha, T beta, bool accumulate)
    {
        TVector zero = TSimd.Zero;
        TVector c0 = zero, c1 = zero, c2 = zero, c3 = zero;
        TVector c4 = zero, c5 = zero;
        nint rs2 = rs * 2;
        T* a3 = a + (rs * 3);
        for (; k > 0; k--)
        {
            TVector bx = TSimd.Load(b);
            TVector x = TSimd.Broadcast(*a);
            c0 = TSimd.Fma(x, bx, c0);
            x = TSimd.Broadcast(a[rs]);
            c1 = TSimd.Fma(x, bx, c1);
            x = TSimd.Broadcast(a[rs2]);
            c2 = TSimd.Fma(x, bx, c2);
            x = TSimd.Broadcast(*a3);
            c3 = TSimd.Fma(x, bx, c3);
            x = TSimd.Broadcast(a3[rs]);
            c4 = TSimd.Fma(x, bx, c4);
            x = TSimd.Broadcast(a3[rs2]);
            c5 = TSimd.Fma(x, bx, c5);
            a += cs;
            a3 += cs;
            b += bs;
        }

        TVector va = TSimd.Broadcast(alpha);
        TVector vb = TSimd.Broadcast(beta);
        Write(c, c0, va, vb, accumulate);
        Write(c + ldc, c1, va, vb, accumulate);
        Write(c + (ldc * 2), c2, va, vb, accumulate);
        Write(c + (ldc * 3), c3, va, vb, accumulate);
        Write(c + (ldc * 4), c4, va, vb, accumulate);
        Write(c + (ldc * 5), c5, va, vb, accumulate);
    }

    /// <summary>4 rows × 1 vector.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Narrow4(nint k, T* a, nint rs, nint cs, T* b, nint bs, T* c, nint ldc, T alpha, T beta, bool accumulate)
    {
        TVector zero = TSimd.Zero;
        TVector c0 = zero, c1 = zero, c2 = zero, c3 = zero;
        nint rs2 = rs * 2;
        T* a3 = a + (rs * 3);
        for (; k > 0; k--)
        {
            TVector bx = TSimd.Load(b);
            TVector x = TSimd.Broadcast(*a);
            c0 = TSimd.Fma(x, bx, c0);
            x = TSimd.Broadcast(a[rs]);
            c1 = TSimd.Fma(x, bx, c1);
            x = TSimd.Broadcast(a[rs2]);
            c2 = TSimd.Fma(x, bx, c2);
            x = TSimd.Broadcast(*a3);
            c3 = TSimd.Fma(x, bx, c3);
            a += cs;
            a3 += cs;
            b += bs;
        }

        TVector va = TSimd.Broadcast(alpha);
        TVector vb = TSimd.Broadcast(beta);
        Write(c, c0, va, vb, accumulate);
        Write(c + ldc, c1, va, vb, accumulate);
        Write(c + (ldc * 2), c2, va, vb, accumulate);
        Write(c + (ldc * 3), c3, va, vb, accumulate);
    }

    /// <summary>2 rows × 1 vector.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Narrow2(nint k, T* a, nint rs, nint cs, T* b, nint bs, T* c, nint ldc, T alpha, T beta, bool accumulate)
    {
        TVector zero = TSimd.Zero;
        TVector c0 = zero, c1 = zero;
        nint rs2 = rs * 2;
        for (; k > 0; k--)
        {
            TVector bx = TSimd.Load(b);
            TVector x = TSimd.Broadcast(*a);
            c0 = TSimd.Fma(x, bx, c0);
            x = TSimd.Broadcast(a[rs]);
            c1 = TSimd.Fma(x, bx, c1);
            a += cs;
            b += bs;
        }

        TVector va = TSimd.Broadcast(alpha);
        TVector vb = TSimd.Broadcast(beta);
        Write(c, c0, va, vb, accumulate);
        Write(c + ldc, c1, va, vb, accumulate);
    }
}
