using System.Runtime.Intrinsics;
using static Engine.Kernels.Cpu.Vector512Math;

namespace Engine.Kernels;

/// <content>For processors whose widest vectors have 256 bits: 4 × 2 vectors of C fill half of the 16 registers.</content>
internal static unsafe partial class TileProduct
{
    private static void Panel256<T>(
        T* a, nint row, nint column, T* b, nint bRow, T* c, nint cRow, int m, int k, bool accumulate)
        where T : unmanaged
    {
        int i = 0;
        byte* rows = (byte*)a;
        for (; i + 4 <= m; i += 4, rows += 4 * row)
        {
            FourByTwo256(rows, row, column, b, bRow, c + (i * cRow), cRow, k, accumulate);
        }

        for (; i < m; i++, rows += row)
        {
            OneByTwo256(rows, column, b, bRow, c + (i * cRow), k, accumulate);
        }
    }

    private static void FourByTwo256<T>(
        byte* a, nint row, nint column, T* b, nint bRow, T* c, nint cRow, int k, bool accumulate)
        where T : unmanaged
    {
        Vector256<T> c00, c01, c10, c11, c20, c21, c30, c31;
        int w = Vector256<T>.Count;
        c00 = c01 = c10 = c11 = c20 = c21 = c30 = c31 = Vector256<T>.Zero;
        if (accumulate)
        {
            c00 = Vector256.Load(c);
            c01 = Vector256.Load(c + w);
            c10 = Vector256.Load(c + cRow);
            c11 = Vector256.Load(c + cRow + w);
            c20 = Vector256.Load(c + (2 * cRow));
            c21 = Vector256.Load(c + (2 * cRow) + w);
            c30 = Vector256.Load(c + (3 * cRow));
            c31 = Vector256.Load(c + (3 * cRow) + w);
        }

        for (; k > 0; k--)
        {
            Vector256<T> b0 = Vector256.Load(b);
            Vector256<T> b1 = Vector256.Load(b + w);
            Vector256<T> x = Vector256.Create(*(T*)a);
            c00 = Fma(x, b0, c00);
            c01 = Fma(x, b1, c01);
            x = Vector256.Create(*(T*)(a + row));
            c10 = Fma(x, b0, c10);
            c11 = Fma(x, b1, c11);
            x = Vector256.Create(*(T*)(a + (2 * row)));
            c20 = Fma(x, b0, c20);
            c21 = Fma(x, b1, c21);
            x = Vector256.Create(*(T*)(a + (3 * row)));
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

    private static void OneByTwo256<T>(byte* a, nint column, T* b, nint bRow, T* c, int k, bool accumulate)
        where T : unmanaged
    {
        Vector256<T> c0 = Vector256<T>.Zero;
        Vector256<T> c1 = Vector256<T>.Zero;
        if (accumulate)
        {
            c0 = Vector256.Load(c);
            c1 = Vector256.Load(c + Vector256<T>.Count);
        }

        for (; k > 0; k--)
        {
            Vector256<T> x = Vector256.Create(*(T*)a);
            c0 = Fma(x, Vector256.Load(b), c0);
            c1 = Fma(x, Vector256.Load(b + Vector256<T>.Count), c1);
            a += column;
            b += bRow;
        }

        c0.Store(c);
        c1.Store(c + Vector256<T>.Count);
    }
}
