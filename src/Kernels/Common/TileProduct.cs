using System.Runtime.Intrinsics;
using static Engine.Kernels.Cpu.Vector512Math;

namespace Engine.Kernels;

/// <summary>
/// Products of tiles that lie in the first-level cache: C[m,n] (+)= A[m,k]·B[k,n] without packing. B and C are row-major
/// with n a multiple of one 512-bit vector; A may have any two strides, because its elements are broadcast one by one.
/// Each element of C is one chain of fused multiply-adds over ascending k, whatever the blocking around it.
/// </summary>
internal static unsafe partial class TileProduct
{
    /// <summary>The number of columns, rounded up, that B and C have to have room for.</summary>
    public static int Padded<T>(int columns)
        where T : unmanaged => (columns + Vector512<T>.Count - 1) / Vector512<T>.Count * Vector512<T>.Count;

    /// <summary>Computes C = A·B, or C += A·B.</summary>
    /// <param name="a">A's first element.</param>
    /// <param name="aRow">Elements between rows of A.</param>
    /// <param name="aColumn">Elements between columns of A.</param>
    /// <param name="b">B's first element.</param>
    /// <param name="bRow">Elements between rows of B.</param>
    /// <param name="c">C's first element.</param>
    /// <param name="cRow">Elements between rows of C.</param>
    /// <param name="m">Rows of A and C.</param>
    /// <param name="n">Columns of B and C, a multiple of <c>Vector512&lt;T&gt;.Count</c>.</param>
    /// <param name="k">Columns of A, rows of B.</param>
    /// <param name="accumulate">Whether C's content is added to.</param>
    public static void Run<T>(
        T* a, nint aRow, nint aColumn, T* b, nint bRow, T* c, nint cRow, int m, int n, int k, bool accumulate)
        where T : unmanaged
    {
        nint row = aRow * sizeof(T);
        nint column = aColumn * sizeof(T);
        int width = Vector512.IsHardwareAccelerated ? Vector512<T>.Count : Vector256<T>.Count;
        int j = 0;
        for (; j + (2 * width) <= n; j += 2 * width)
        {
            if (Vector512.IsHardwareAccelerated)
            {
                Panel512(a, row, column, b + j, bRow, c + j, cRow, m, k, accumulate);
            }
            else
            {
                Panel256(a, row, column, b + j, bRow, c + j, cRow, m, k, accumulate);
            }
        }

        // One vector is left only in 512-bit form: n is a multiple of two 256-bit vectors.
        if (j < n)
        {
            int i = 0;
            for (; i + 8 <= m; i += 8)
            {
                Eight512(a + (i * aRow), row, column, b + j, bRow, c + (i * cRow) + j, cRow, k, accumulate);
            }

            for (; i < m; i++)
            {
                One512(a + (i * aRow), column, b + j, bRow, c + (i * cRow) + j, k, accumulate);
            }
        }
    }

    private static void Panel512<T>(
        T* a, nint row, nint column, T* b, nint bRow, T* c, nint cRow, int m, int k, bool accumulate)
        where T : unmanaged
    {
        int i = 0;
        byte* rows = (byte*)a;
        for (; i + 8 <= m; i += 8, rows += 8 * row)
        {
            EightByTwo512(rows, row, column, b, bRow, c + (i * cRow), cRow, k, accumulate);
        }

        if (i + 4 <= m)
        {
            FourByTwo512(rows, row, column, b, bRow, c + (i * cRow), cRow, k, accumulate);
            i += 4;
            rows += 4 * row;
        }

        for (; i < m; i++, rows += row)
        {
            One512((T*)rows, column, b, bRow, c + (i * cRow), k, accumulate);
            One512((T*)rows, column, b + Vector512<T>.Count, bRow, c + (i * cRow) + Vector512<T>.Count, k, accumulate);
        }
    }

    private static void EightByTwo512<T>(
        byte* a, nint row, nint column, T* b, nint bRow, T* c, nint cRow, int k, bool accumulate)
        where T : unmanaged
    {
        Vector512<T> c00, c01, c10, c11, c20, c21, c30, c31, c40, c41, c50, c51, c60, c61, c70, c71;
        int w = Vector512<T>.Count;
        if (accumulate)
        {
            c00 = Vector512.Load(c);
            c01 = Vector512.Load(c + w);
            c10 = Vector512.Load(c + cRow);
            c11 = Vector512.Load(c + cRow + w);
            c20 = Vector512.Load(c + (2 * cRow));
            c21 = Vector512.Load(c + (2 * cRow) + w);
            c30 = Vector512.Load(c + (3 * cRow));
            c31 = Vector512.Load(c + (3 * cRow) + w);
            c40 = Vector512.Load(c + (4 * cRow));
            c41 = Vector512.Load(c + (4 * cRow) + w);
            c50 = Vector512.Load(c + (5 * cRow));
            c51 = Vector512.Load(c + (5 * cRow) + w);
            c60 = Vector512.Load(c + (6 * cRow));
            c61 = Vector512.Load(c + (6 * cRow) + w);
            c70 = Vector512.Load(c + (7 * cRow));
            c71 = Vector512.Load(c + (7 * cRow) + w);
        }
        else
        {
            c00 = c01 = c10 = c11 = c20 = c21 = c30 = c31 = Vector512<T>.Zero;
            c40 = c41 = c50 = c51 = c60 = c61 = c70 = c71 = Vector512<T>.Zero;
        }

        // Rows 0–2, 3–5 and 6–7 from three pointers: base, base + row and base + 2·row are addressing modes.
        byte* a3 = a + (3 * row);
        byte* a6 = a3 + (3 * row);
        for (; k > 0; k--)
        {
            Vector512<T> b0 = Vector512.Load(b);
            Vector512<T> b1 = Vector512.Load(b + w);
            Vector512<T> x = Vector512.Create(*(T*)a);
            c00 = Fma(x, b0, c00);
            c01 = Fma(x, b1, c01);
            x = Vector512.Create(*(T*)(a + row));
            c10 = Fma(x, b0, c10);
            c11 = Fma(x, b1, c11);
            x = Vector512.Create(*(T*)(a + (2 * row)));
            c20 = Fma(x, b0, c20);
            c21 = Fma(x, b1, c21);
            x = Vector512.Create(*(T*)a3);
            c30 = Fma(x, b0, c30);
            c31 = Fma(x, b1, c31);
            x = Vector512.Create(*(T*)(a3 + row));
            c40 = Fma(x, b0, c40);
            c41 = Fma(x, b1, c41);
            x = Vector512.Create(*(T*)(a3 + (2 * row)));
            c50 = Fma(x, b0, c50);
            c51 = Fma(x, b1, c51);
            x = Vector512.Create(*(T*)a6);
            c60 = Fma(x, b0, c60);
            c61 = Fma(x, b1, c61);
            x = Vector512.Create(*(T*)(a6 + row));
            c70 = Fma(x, b0, c70);
            c71 = Fma(x, b1, c71);
            a += column;
            a3 += column;
            a6 += column;
            b += bRow;
        }

        c00.Store(c);
        c01.Store(c + w);
        c10.Store(c + cRow);
        c11.Store(c + cRow + w);
        c20.Store(c + (2 * cRow));
        c21.Store(c + (2 * cRow) + w);
        c30.Store(c + (3 * cRow));
        c31.Store(c + (3 * cRow) + w);
        c40.Store(c + (4 * cRow));
        c41.Store(c + (4 * cRow) + w);
        c50.Store(c + (5 * cRow));
        c51.Store(c + (5 * cRow) + w);
        c60.Store(c + (6 * cRow));
        c61.Store(c + (6 * cRow) + w);
        c70.Store(c + (7 * cRow));
        c71.Store(c + (7 * cRow) + w);
    }

    private static void FourByTwo512<T>(
        byte* a, nint row, nint column, T* b, nint bRow, T* c, nint cRow, int k, bool accumulate)
        where T : unmanaged
    {
        Vector512<T> c00, c01, c10, c11, c20, c21, c30, c31;
        int w = Vector512<T>.Count;
        c00 = c01 = c10 = c11 = c20 = c21 = c30 = c31 = Vector512<T>.Zero;
        if (accumulate)
        {
            c00 = Vector512.Load(c);
            c01 = Vector512.Load(c + w);
            c10 = Vector512.Load(c + cRow);
            c11 = Vector512.Load(c + cRow + w);
            c20 = Vector512.Load(c + (2 * cRow));
            c21 = Vector512.Load(c + (2 * cRow) + w);
            c30 = Vector512.Load(c + (3 * cRow));
            c31 = Vector512.Load(c + (3 * cRow) + w);
        }

        for (; k > 0; k--)
        {
            Vector512<T> b0 = Vector512.Load(b);
            Vector512<T> b1 = Vector512.Load(b + w);
            Vector512<T> x = Vector512.Create(*(T*)a);
            c00 = Fma(x, b0, c00);
            c01 = Fma(x, b1, c01);
            x = Vector512.Create(*(T*)(a + row));
            c10 = Fma(x, b0, c10);
            c11 = Fma(x, b1, c11);
            x = Vector512.Create(*(T*)(a + (2 * row)));
            c20 = Fma(x, b0, c20);
            c21 = Fma(x, b1, c21);
            x = Vector512.Create(*(T*)(a + (3 * row)));
            c30 = Fma(x, b0, c30);
            c31 = Fma(x, b1, c31);
            a += column;
            b += bRow;
        }

        c00.Store(c);
        c01.Store(c + w);
        c10.Store(c + cRow);
        c11.Store(c + cRow + w);
        c20.Store(c + (2 * cRow));
        c21.Store(c + (2 * cRow) + w);
        c30.Store(c + (3 * cRow));
        c31.Store(c + (3 * cRow) + w);
    }

    private static void Eight512<T>(
        T* a, nint row, nint column, T* b, nint bRow, T* c, nint cRow, int k, bool accumulate)
        where T : unmanaged
    {
        Vector512<T> c0, c1, c2, c3, c4, c5, c6, c7;
        c0 = c1 = c2 = c3 = c4 = c5 = c6 = c7 = Vector512<T>.Zero;
        if (accumulate)
        {
            c0 = Vector512.Load(c);
            c1 = Vector512.Load(c + cRow);
            c2 = Vector512.Load(c + (2 * cRow));
            c3 = Vector512.Load(c + (3 * cRow));
            c4 = Vector512.Load(c + (4 * cRow));
            c5 = Vector512.Load(c + (5 * cRow));
            c6 = Vector512.Load(c + (6 * cRow));
            c7 = Vector512.Load(c + (7 * cRow));
        }

        byte* a0 = (byte*)a;
        byte* a4 = a0 + (4 * row);
        for (; k > 0; k--)
        {
            Vector512<T> b0 = Vector512.Load(b);
            c0 = Fma(Vector512.Create(*(T*)a0), b0, c0);
            c1 = Fma(Vector512.Create(*(T*)(a0 + row)), b0, c1);
            c2 = Fma(Vector512.Create(*(T*)(a0 + (2 * row))), b0, c2);
            c3 = Fma(Vector512.Create(*(T*)(a0 + (3 * row))), b0, c3);
            c4 = Fma(Vector512.Create(*(T*)a4), b0, c4);
            c5 = Fma(Vector512.Create(*(T*)(a4 + row)), b0, c5);
            c6 = Fma(Vector512.Create(*(T*)(a4 + (2 * row))), b0, c6);
            c7 = Fma(Vector512.Create(*(T*)(a4 + (3 * row))), b0, c7);
            a0 += column;
            a4 += column;
            b += bRow;
        }

        c0.Store(c);
        c1.Store(c + cRow);
        c2.Store(c + (2 * cRow));
        c3.Store(c + (3 * cRow));
        c4.Store(c + (4 * cRow));
        c5.Store(c + (5 * cRow));
        c6.Store(c + (6 * cRow));
        c7.Store(c + (7 * cRow));
    }

    private static void One512<T>(T* a, nint column, T* b, nint bRow, T* c, int k, bool accumulate)
        where T : unmanaged
    {
        Vector512<T> c0 = accumulate ? Vector512.Load(c) : Vector512<T>.Zero;
        byte* a0 = (byte*)a;
        for (; k > 0; k--)
        {
            c0 = Fma(Vector512.Create(*(T*)a0), Vector512.Load(b), c0);
            a0 += column;
            b += bRow;
        }

        c0.Store(c);
    }
}
