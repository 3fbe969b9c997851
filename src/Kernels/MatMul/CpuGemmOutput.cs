using System.Numerics;
using System.Runtime.CompilerServices;
using Engine.Kernels.Cpu;

namespace Engine.Kernels;

/// <summary>What happens to C outside the micro-kernels.</summary>
internal static unsafe class CpuGemmOutput
{
    private const int Strip = 128;

    /// <summary>C[i.., j..] = alpha · block + beta · C over rows × columns; C is not read when beta is 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Block<T>(
        in GemmMatrix c, int item, int i, int j, int rows, int columns, T* block, long stride, T alpha, T beta)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        bool convert = c.Type != CpuStorage.DTypeOf<T>();
        T* strip = stackalloc T[Strip];
        for (int r = 0; r < rows; r++)
        {
            T* from = block + (r * stride);
            if (!convert)
            {
                Row(from, (T*)c.At(item, i + r, j), columns, alpha, beta);
                continue;
            }

            for (int q = 0; q < columns; q += Strip)
            {
                int count = Math.Min(Strip, columns - q);
                byte* to = c.At(item, i + r, j + q);
                if (beta != T.Zero)
                {
                    CpuStorage.Load(c.Type, to, strip, count);
                }

                Row(from + q, strip, count, alpha, beta);
                CpuStorage.Store(c.Type, strip, to, count);
            }
        }
    }

    /// <summary>C = beta · C for every item of the batch; zeros, without reading, when beta is 0.</summary>
    public static void Scale<T>(ref GemmCall<T> call)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (call.Beta == T.One)
        {
            return;
        }

        // A block of zeros with row stride 0 stands for the empty product.
        GemmCall<T> copy = call;
        T* zeros = CpuScratch.Get<T>(CpuScratch.Slot.Shared, call.N);
        new Span<T>(zeros, call.N).Clear();
        copy.Packed = zeros;
        GemmCall<T>* at = &copy;
        long rows = (long)call.Batch * call.M;
        CpuParallel.ForRange(rows, Math.Max(1, 65536 / call.N), (nint)at, static (state, begin, end) =>
        {
            var call = (GemmCall<T>*)state;
            for (long row = begin; row < end; row++)
            {
                (long item, long i) = Math.DivRem(row, call->M);
                Block(call->C, (int)item, (int)i, 0, 1, call->N, call->Packed, 0, T.Zero, call->Beta);
            }
        });
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Row<T>(T* from, T* to, int count, T alpha, T beta)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        if (beta == T.Zero)
        {
            for (int q = 0; q < count; q++)
            {
                to[q] = alpha * from[q];
            }

            return;
        }

        for (int q = 0; q < count; q++)
        {
            to[q] = (alpha * from[q]) + (beta * to[q]);
        }
    }
}
