using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Engine.Kernels;

/// <summary>
/// Copies operands into the order in which the micro-kernels read them, converting bf16 and f16 to float on the way.
/// Parts of a panel or a block that lie outside the matrix become zeros, so that kernels always run at full width.
/// </summary>
internal static unsafe class CpuGemmPack
{
    /// <summary>Elements of a row that are converted before a transposition.</summary>
    private const int Strip = 64;

    /// <summary>Rows of the largest block of a transposed A; the largest tile is not taller.</summary>
    private const int MaxTransposedRows = 128;

    /// <summary>
    /// Packs rows [k0, k1) of op(B)'s columns [j, j + columns) into a panel: row p at <c>panel + p·width</c>.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PanelB<T>(in GemmMatrix b, int item, int j, int columns, int k0, int k1, T* panel, int width)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (!b.Transposed)
        {
            if (b.Type == CpuStorage.DTypeOf<T>() && columns == width && width % Vector512<T>.Count == 0)
            {
                CopyRows((T*)b.At(item, k0, j), b.Stride, k1 - k0, panel + ((long)k0 * width), width);
                return;
            }

            for (int p = k0; p < k1; p++)
            {
                T* row = panel + ((long)p * width);
                CpuStorage.Load(b.Type, b.At(item, p, j), row, columns);
                new Span<T>(row + columns, width - columns).Clear();
            }

            return;
        }

        bool convert = b.Type != CpuStorage.DTypeOf<T>();
        T* strip = stackalloc T[4 * Strip];
        for (int p = k0; p < k1; p += Strip)
        {
            int depth = Math.Min(Strip, k1 - p);
            int c = 0;
            for (; c + 4 <= columns; c += 4)
            {
                T* source = (T*)b.At(item, j + c, p);
                long stride = b.Stride;
                if (convert)
                {
                    for (int r = 0; r < 4; r++)
                    {
                        CpuStorage.Load(b.Type, b.At(item, j + c + r, p), strip + (r * Strip), depth);
                    }

                    source = strip;
                    stride = Strip;
                }

                TransposeFour(source, stride, depth, panel + ((long)p * width) + c, width);
            }

            for (; c < width; c++)
            {
                T* to = panel + ((long)p * width) + c;
                if (c < columns)
                {
                    CpuStorage.Load(b.Type, b.At(item, j + c, p), strip, depth);
                }
                else
                {
                    new Span<T>(strip, depth).Clear();
                }

                for (int q = 0; q < depth; q++)
                {
                    to[(long)q * width] = strip[q];
                }
            }
        }
    }

    /// <summary>
    /// Copies rows [i, i + rows) × [k0, k0 + depth) of op(A) into a block of <paramref name="padded"/> rows without
    /// transposing: element (r, p) of the panel of <paramref name="panelRows"/> rows number q lands at
    /// <c>block + q·panelStride + r·rs + p·cs</c>.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void BlockA<T>(in GemmMatrix a, int item, int i, int rows, int padded, int panelRows, int k0, int depth, T* block, out nint rs, out nint cs, out nint panelStride)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (a.Transposed)
        {
            // Panels end in room for a vector: rows are stored in whole vectors, each over the last one's excess.
            (rs, cs, panelStride) = (1, panelRows, PanelStride<T>(panelRows, depth));
            T* strip = stackalloc T[MaxTransposedRows + Vector128<T>.Count];
            for (int p = 0; p < depth; p++)
            {
                T* from = (T*)a.At(item, k0 + p, i);
                if (a.Type != CpuStorage.DTypeOf<T>() || rows < padded)
                {
                    CpuStorage.Load(a.Type, (byte*)from, strip, rows);
                    new Span<T>(strip + rows, padded - rows).Clear();
                    from = strip;
                }

                T* to = block + ((long)p * panelRows);
                int r = 0;
                for (; r + panelRows + Vector128<T>.Count <= padded; r += panelRows, to += panelStride)
                {
                    for (int q = 0; q < panelRows; q += Vector128<T>.Count)
                    {
                        Vector128.Load(from + r + q).Store(to + q);
                    }
                }

                for (; r < padded; r += panelRows, to += panelStride)
                {
                    int last = Math.Min(panelRows, padded - r);
                    for (int q = 0; q < last; q++)
                    {
                        to[q] = from[r + q];
                    }
                }
            }

            return;
        }

        (rs, cs) = (RowStride<T>(depth), 1);
        panelStride = panelRows * rs;
        for (int r = 0; r < padded; r++)
        {
            T* to = block + (r * rs);
            if (r < rows)
            {
                CpuStorage.Load(a.Type, a.At(item, i + r, k0), to, depth);
            }
            else
            {
                new Span<T>(to, depth).Clear();
            }
        }
    }

    /// <summary>Elements that a block of <paramref name="padded"/> rows takes.</summary>
    public static long BlockSize<T>(int padded, int panelRows, int depth)
        where T : unmanaged
    {
        int panels = (padded + panelRows - 1) / panelRows;
        return Math.Max(panels * PanelStride<T>(panelRows, depth), (long)padded * RowStride<T>(depth));
    }

    private static nint PanelStride<T>(int panelRows, int depth)
        where T : unmanaged => (panelRows * depth) + (64 / sizeof(T));

    /// <summary>
    /// Row stride of a copied block: whole cache lines and an odd number of them, so that the rows which a micro-kernel
    /// reads together fall into different sets of the first-level cache.
    /// </summary>
    public static int RowStride<T>(int depth)
        where T : unmanaged
    {
        int line = 64 / sizeof(T);
        return (((depth + line - 1) / line) | 1) * line;
    }

    /// <summary>Copies rows of <paramref name="width"/> elements, a multiple of 64 bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void CopyRows<T>(T* from, long stride, int rows, T* to, int width)
        where T : unmanaged
    {
        for (int r = 0; r < rows; r++)
        {
            for (int q = 0; q < width; q += Vector512<T>.Count)
            {
                Vector512.Load(from + q).Store(to + q);
            }

            from += stride;
            to += width;
        }
    }

    /// <summary>Transposes 4 rows of length <paramref name="depth"/> into 4 adjacent columns.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void TransposeFour<T>(T* source, long stride, int depth, T* to, long width)
        where T : unmanaged
    {
        T* r0 = source;
        T* r1 = source + stride;
        T* r2 = source + (2 * stride);
        T* r3 = source + (3 * stride);
        int p = 0;
        if (typeof(T) == typeof(float))
        {
            for (; p + 4 <= depth; p += 4)
            {
                Vector128<float> x0 = Vector128.Load((float*)r0 + p);
                Vector128<float> x1 = Vector128.Load((float*)r1 + p);
                Vector128<float> x2 = Vector128.Load((float*)r2 + p);
                Vector128<float> x3 = Vector128.Load((float*)r3 + p);

                // Pairs (x0,x2) and (x1,x3) interleaved, then the results interleaved: 4×4 transposed.
                Vector128<float> e = CpuInterleave.Low(x0, x2);
                Vector128<float> f = CpuInterleave.High(x0, x2);
                Vector128<float> g = CpuInterleave.Low(x1, x3);
                Vector128<float> h = CpuInterleave.High(x1, x3);
                float* at = (float*)to + (p * width);
                CpuInterleave.Low(e, g).Store(at);
                CpuInterleave.High(e, g).Store(at + width);
                CpuInterleave.Low(f, h).Store(at + (2 * width));
                CpuInterleave.High(f, h).Store(at + (3 * width));
            }
        }

        for (; p < depth; p++)
        {
            T* at = to + (p * width);
            at[0] = r0[p];
            at[1] = r1[p];
            at[2] = r2[p];
            at[3] = r3[p];
        }
    }
}
