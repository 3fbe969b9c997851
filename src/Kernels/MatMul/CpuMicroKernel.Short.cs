using System.Runtime.CompilerServices;

namespace Engine.Kernels;

/// <content>The shorter kernels, two vectors wide: the tallest of AVX2 and of the fallback, and row tails.</content>
internal static unsafe partial class CpuMicroKernel<T, TVector, TSimd>
{
    /// <summary>6 rows × 2 vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Wide6(nint k, T* a, nint rs, nint cs, T* b, nint bs, T* c, nint ldc, T alpha, T beta, bool accumulate)
    {
        TVector zero = TSimd.Zero;
        TVector c0x = zero, c0y = zero, c1x = zero, c1y = zero;
        TVector c2x = zero, c2y = zero, c3x = zero, c3y = zero;
        TVector c4x = zero, c4y = zero, c5x = zero, c5y = zero;
        nint rs2 = rs * 2;
        T* a3 = a + (rs * 3);
        Prefetch(c, ldc, 6);
        for (; k > 0; k--)
        {
            TVector bx = TSimd.Load(b);
            TVector by = TSimd.Load(b + TSimd.Count);
            TVector x = TSimd.Broadcast(*a);
            c0x = TSimd.Fma(x, bx, c0x);
            c0y = TSimd.Fma(x, by, c0y);
            x = TSimd.Broadcast(a[rs]);
            c1x = TSimd.Fma(x, bx, c1x);
            c1y = TSimd.Fma(x, by, c1y);
            x = TSimd.Broadcast(a[rs2]);
            c2x = TSimd.Fma(x, bx, c2x);
            c2y = TSimd.Fma(x, by, c2y);
            x = TSimd.Broadcast(*a3);
            c3x = TSimd.Fma(x, bx, c3x);
            c3y = TSimd.Fma(x, by, c3y);
            x = TSimd.Broadcast(a3[rs]);
            c4x = TSimd.Fma(x, bx, c4x);
            c4y = TSimd.Fma(x, by, c4y);
            x = TSimd.Broadcast(a3[rs2]);
            c5x = TSimd.Fma(x, bx, c5x);
            c5y = TSimd.Fma(x, by, c5y);
            a += cs;
            a3 += cs;
            b += bs;
        }

        TVector va = TSimd.Broadcast(alpha);
        TVector vb = TSimd.Broadcast(beta);
        Write(c, c0x, c0y, va, vb, accumulate);
        Write(c + ldc, c1x, c1y, va, vb, accumulate);
        Write(c + (ldc * 2), c2x, c2y, va, vb, accumulate);
        Write(c + (ldc * 3), c3x, c3y, va, vb, accumulate);
        Write(c + (ldc * 4), c4x, c4y, va, vb, accumulate);
        Write(c + (ldc * 5), c5x, c5y, va, vb, accumulate);
    }

    /// <summary>4 rows × 2 vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Wide4(nint k, T* a, nint rs, nint cs, T* b, nint bs, T* c, nint ldc, T alpha, T beta, bool accumulate)
    {
        TVector zero = TSimd.Zero;
        TVector c0x = zero, c0y = zero, c1x = zero, c1y = zero;
        TVector c2x = zero, c2y = zero, c3x = zero, c3y = zero;
        nint rs2 = rs * 2;
        T* a3 = a + (rs * 3);
        for (; k > 0; k--)
        {
            TVector bx = TSimd.Load(b);
            TVector by = TSimd.Load(b + TSimd.Count);
            TVector x = TSimd.Broadcast(*a);
            c0x = TSimd.Fma(x, bx, c0x);
            c0y = TSimd.Fma(x, by, c0y);
            x = TSimd.Broadcast(a[rs]);
            c1x = TSimd.Fma(x, bx, c1x);
            c1y = TSimd.Fma(x, by, c1y);
            x = TSimd.Broadcast(a[rs2]);
            c2x = TSimd.Fma(x, bx, c2x);
            c2y = TSimd.Fma(x, by, c2y);
            x = TSimd.Broadcast(*a3);
            c3x = TSimd.Fma(x, bx, c3x);
            c3y = TSimd.Fma(x, by, c3y);
            a += cs;
            a3 += cs;
            b += bs;
        }

        TVector va = TSimd.Broadcast(alpha);
        TVector vb = TSimd.Broadcast(beta);
        Write(c, c0x, c0y, va, vb, accumulate);
        Write(c + ldc, c1x, c1y, va, vb, accumulate);
        Write(c + (ldc * 2), c2x, c2y, va, vb, accumulate);
        Write(c + (ldc * 3), c3x, c3y, va, vb, accumulate);
    }

    /// <summary>2 rows × 2 vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Wide2(nint k, T* a, nint rs, nint cs, T* b, nint bs, T* c, nint ldc, T alpha, T beta, bool accumulate)
    {
        TVector zero = TSimd.Zero;
        TVector c0x = zero, c0y = zero, c1x = zero, c1y = zero;
        nint rs2 = rs * 2;
        for (; k > 0; k--)
        {
            TVector bx = TSimd.Load(b);
            TVector by = TSimd.Load(b + TSimd.Count);
            TVector x = TSimd.Broadcast(*a);
            c0x = TSimd.Fma(x, bx, c0x);
            c0y = TSimd.Fma(x, by, c0y);
            x = TSimd.Broadcast(a[rs]);
            c1x = TSimd.Fma(x, bx, c1x);
            c1y = TSimd.Fma(x, by, c1y);
            a += cs;
            b += bs;
        }

        TVector va = TSimd.Broadcast(alpha);
        TVector vb = TSimd.Broadcast(beta);
        Write(c, c0x, c0y, va, vb, accumulate);
        Write(c + ldc, c1x, c1y, va, vb, accumulate);
    }
}
