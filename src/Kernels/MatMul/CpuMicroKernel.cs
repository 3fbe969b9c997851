using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace Engine.Kernels;

/// <summary>
/// Micro-kernels, two vectors wide: C[rows, 2·Count] = alpha · A·B + beta · C with the block of C kept in registers over
/// the whole of k. Straight-line code, one named local for each register; nothing is spilled (the sizes are chosen so).
/// </summary>
/// <remarks>
/// A is read one scalar at a time, element (i, p) at <c>a + i·rs + p·cs</c>, so both storage orders serve without
/// transposition; row p of B is at <c>b + p·bs</c>. Sums run over k in ascending order in every kernel: an element's bits
/// do not depend on which kernel, tile or thread computes it.
/// </remarks>
internal static unsafe partial class CpuMicroKernel<T, TVector, TSimd>
    where T : unmanaged
    where TVector : unmanaged
    where TSimd : struct, ICpuSimd<TVector, T>
{
    /// <summary>Runs the kernel with <paramref name="rows"/> rows and one or two vectors of columns.</summary>
    /// <param name="rows">A multiple of the row step, at most the largest number of rows.</param>
    /// <param name="wide">Two vectors of columns instead of one.</param>
    /// <param name="k">Length of the sums; at least 0.</param>
    /// <param name="a">Element (0, 0) of A.</param>
    /// <param name="rs">Distance between rows of A, in elements.</param>
    /// <param name="cs">Distance between columns of A, in elements.</param>
    /// <param name="b">Element (0, 0) of B.</param>
    /// <param name="bs">Distance between rows of B, in elements.</param>
    /// <param name="c">Element (0, 0) of C.</param>
    /// <param name="ldc">Distance between rows of C, in elements.</param>
    /// <param name="alpha">Factor of the product.</param>
    /// <param name="beta">Factor of C.</param>
    /// <param name="accumulate">Whether C is read; when false beta is ignored and C may hold anything.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Run(int rows, bool wide, nint k, T* a, nint rs, nint cs, T* b, nint bs, T* c, nint ldc, T alpha, T beta, bool accumulate)
    {
        switch (wide ? rows : -rows)
        {
            case 12:
                Wide12(k, a, rs, cs, b, bs, c, ldc, alpha, beta, accumulate);
                break;
            case 8:
                Wide8(k, a, rs, cs, b, bs, c, ldc, alpha, beta, accumulate);
                break;
            case 6:
                Wide6(k, a, rs, cs, b, bs, c, ldc, alpha, beta, accumulate);
                break;
            case 4:
                Wide4(k, a, rs, cs, b, bs, c, ldc, alpha, beta, accumulate);
                break;
            case 2:
                Wide2(k, a, rs, cs, b, bs, c, ldc, alpha, beta, accumulate);
                break;
            case -12:
                Narrow12(k, a, rs, cs, b, bs, c, ldc, alpha, beta, accumulate);
                break;
            case -8:
                Narrow8(k, a, rs, cs, b, bs, c, ldc, alpha, beta, accumulate);
                break;
            case -6:
                Narrow6(k, a, rs, cs, b, bs, c, ldc, alpha, beta, accumulate);
                break;
            case -4:
                Narrow4(k, a, rs, cs, b, bs, c, ldc, alpha, beta, accumulate);
                break;
            case -2:
                Narrow2(k, a, rs, cs, b, bs, c, ldc, alpha, beta, accumulate);
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(rows), rows, "no such micro-kernel");
        }
    }

    /// <summary>12 rows × 2 vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Wide12(nint k, T* a, nint rs, nint cs, T* b, nint bs, T* c, nint ldc, T alpha, T beta, bool accumulate)
    {
        TVector zero = TSimd.Zero;
        TVector c0x = zero, c0y = zero, c1x = zero, c1y = zero;
        TVector c2x = zero, c2y = zero, c3x = zero, c3y = zero;
        TVector c4x = zero, c4y = zero, c5x = zero, c5y = zero;
        TVector c6x = zero, c6y = zero, c7x = zero, c7y = zero;
        TVector c8x = zero, c8y = zero, c9x = zero, c9y = zero;
        TVector c10x = zero, c10y = zero, c11x = zero, c11y = zero;
        nint rs2 = rs * 2;
        T* a3 = a + (rs * 3);
        T* a6 = a + (rs * 6);
        T* a9 = a + (rs * 9);
        Prefetch(c, ldc, 12);
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
            x = TSimd.Broadcast(*a6);
            c6x = TSimd.Fma(x, bx, c6x);
            c6y = TSimd.Fma(x, by, c6y);
            x = TSimd.Broadcast(a6[rs]);
            c7x = TSimd.Fma(x, bx, c7x);
            c7y = TSimd.Fma(x, by, c7y);
            x = TSimd.Broadcast(a6[rs2]);
            c8x = TSimd.Fma(x, bx, c8x);
            c8y = TSimd.Fma(x, by, c8y);
            x = TSimd.Broadcast(*a9);
            c9x = TSimd.Fma(x, bx, c9x);
            c9y = TSimd.Fma(x, by, c9y);
            x = TSimd.Broadcast(a9[rs]);
            c10x = TSimd.Fma(x, bx, c10x);
            c10y = TSimd.Fma(x, by, c10y);
            x = TSimd.Broadcast(a9[rs2]);
            c11x = TSimd.Fma(x, bx, c11x);
            c11y = TSimd.Fma(x, by, c11y);
            a += cs;
            a3 += cs;
            a6 += cs;
            a9 += cs;
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
        Write(c + (ldc * 6), c6x, c6y, va, vb, accumulate);
        Write(c + (ldc * 7), c7x, c7y, va, vb, accumulate);
        Write(c + (ldc * 8), c8x, c8y, va, vb, accumulate);
        Write(c + (ldc * 9), c9x, c9y, va, vb, accumulate);
        Write(c + (ldc * 10), c10x, c10y, va, vb, accumulate);
        Write(c + (ldc * 11), c11x, c11y, va, vb, accumulate);
    }

    /// <summary>8 rows × 2 vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Wide8(nint k, T* a, nint rs, nint cs, T* b, nint bs, T* c, nint ldc, T alpha, T beta, bool accumulate)
    {
        TVector zero = TSimd.Zero;
        TVector c0x = zero, c0y = zero, c1x = zero, c1y = zero;
        TVector c2x = zero, c2y = zero, c3x = zero, c3y = zero;
        TVector c4x = zero, c4y = zero, c5x = zero, c5y = zero;
        TVector c6x = zero, c6y = zero, c7x = zero, c7y = zero;
        nint rs2 = rs * 2;
        T* a3 = a + (rs * 3);
        T* a6 = a + (rs * 6);
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
            x = TSimd.Broadcast(*a6);
            c6x = TSimd.Fma(x, bx, c6x);
            c6y = TSimd.Fma(x, by, c6y);
            x = TSimd.Broadcast(a6[rs]);
            c7x = TSimd.Fma(x, bx, c7x);
            c7y = TSimd.Fma(x, by, c7y);
            a += cs;
            a3 += cs;
            a6 += cs;
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
        Write(c + (ldc * 6), c6x, c6y, va, vb, accumulate);
        Write(c + (ldc * 7), c7x, c7y, va, vb, accumulate);
    }

    /// <summary>Fetches the block of C while the sums run, since nothing else will have touched it lately.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(T* c, nint ldc, int rows)
    {
        if (Sse.IsSupported)
        {
            for (int r = 0; r < rows; r++, c += ldc)
            {
                Sse.Prefetch0(c);
                Sse.Prefetch0(c + TSimd.Count);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Write(T* c, TVector x, TVector y, TVector alpha, TVector beta, bool accumulate)
    {
        Write(c, x, alpha, beta, accumulate);
        Write(c + TSimd.Count, y, alpha, beta, accumulate);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Write(T* c, TVector x, TVector alpha, TVector beta, bool accumulate)
    {
        TVector product = accumulate
            ? TSimd.Fma(alpha, x, TSimd.Multiply(beta, TSimd.Load(c)))
            : TSimd.Multiply(alpha, x);
        TSimd.Store(product, c);
    }
}
