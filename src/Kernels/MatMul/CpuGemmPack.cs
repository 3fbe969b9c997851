using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace Engine.Kernels;

/// <summary>
/// Copies operands into the order in which the micro-kernels read them, converting bf16 and f16 to float on the way.
/// Parts of a panel or a block that lie outside the matrix become zeros, so that kernels always run at full width.
/// </summary>
internal static unsafe class CpuGemmPack
{
    /// <summary>Elements of a row that are converted before a transposition.</summary>
    private const int Strip = 64;

    /// <summary>
    /// Packs rows [k0, k1) of op(B)'s columns [j, j + columns) into a panel: row p at <c>panel + p·width</c>.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void PanelB<T>(in GemmMatrix b, int item, int j, int columns, int k0, int k1, T* panel, int width)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (!b.Transposed)
        {
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
    /// Copies rows [i, i + rows) × [k0, k0 + depth) of op(A) into a block of <paramref name="padded"/> rows, in the order
    /// they are stored in: element (r, p) lands at <c>block + r·rs + p·cs</c>.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void BlockA<T>(in GemmMatrix a, int item, int i, int rows, int padded, int k0, int depth, T* block, out nint rs, out nint cs)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (a.Transposed)
        {
            (rs, cs) = (1, padded);
            for (int p = 0; p < depth; p++)
            {
                T* to = block + ((long)p * padded);
                CpuStorage.Load(a.Type, a.At(item, k0 + p, i), to, rows);
                new Span<T>(to + rows, padded - rows).Clear();
            }

            return;
        }

        (rs, cs) = (RowStride<T>(depth), 1);
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
        if (typeof(T) == typeof(float) && (Sse.IsSupported || AdvSimd.Arm64.IsSupported))
        {
            for (; p + 4 <= depth; p += 4)
            {
                Vector128<float> x0 = Vector128.Load((float*)r0 + p);
                Vector128<float> x1 = Vector128.Load((float*)r1 + p);
                Vector128<float> x2 = Vector128.Load((float*)r2 + p);
                Vector128<float> x3 = Vector128.Load((float*)r3 + p);

                // Pairs (x0,x2) and (x1,x3) interleaved, then the results interleaved: 4×4 transposed.
                Vector128<float> e = Low(x0, x2);
                Vector128<float> f = High(x0, x2);
                Vector128<float> g = Low(x1, x3);
                Vector128<float> h = High(x1, x3);
                float* at = (float*)to + (p * width);
                Low(e, g).Store(at);
                High(e, g).Store(at + width);
                Low(f, h).Store(at + (2 * width));
                High(f, h).Store(at + (3 * width));
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

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> Low(Vector128<float> a, Vector128<float> b) =>
        Sse.IsSupported ? Sse.UnpackLow(a, b) : AdvSimd.Arm64.ZipLow(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> High(Vector128<float> a, Vector128<float> b) =>
        Sse.IsSupported ? Sse.UnpackHigh(a, b) : AdvSimd.Arm64.ZipHigh(a, b);
}
