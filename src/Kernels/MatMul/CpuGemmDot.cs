using System.Numerics;
using System.Runtime.CompilerServices;
using Engine.Kernels.Cpu;

namespace Engine.Kernels;

/// <summary>
/// Few rows times a transposed matrix (decoding: y = x·Wᵀ): W is streamed once, where it lies, as dot products. Packing
/// would cost more than the product.
/// </summary>
internal static unsafe class CpuGemmDot<T, TVector, TSimd>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
    where TVector : unmanaged
    where TSimd : struct, ICpuSimd<TVector, T>
{
    private const int MaxRows = 16;

    /// <summary>Elements of W in a task, and operations below which threads are not woken.</summary>
    private const int TaskElements = 32768;
    private const double InlineFlops = 2e5;

    public static bool Takes(in GemmCall<T> call) =>
        call.B.Transposed && call.M <= MaxRows && call.K >= 2 * TSimd.Count;

    public static void Run(ref GemmCall<T> problem)
    {
        GemmCall<T> call = problem;
        PackA(ref call);
        call.TileN = Math.Max(4, GemmCall<T>.RoundUp(TaskElements / call.K, 4));
        call.Columns = call.N;
        GemmCall<T>* at = &call;
        int tasks = call.Batch * call.TilesN;
        if (call.Flops >= InlineFlops)
        {
            CpuParallel.For(tasks, (nint)at, static (state, index) => Task((GemmCall<T>*)state, index));
            return;
        }

        for (int index = 0; index < tasks; index++)
        {
            Task(at, index);
        }
    }

    /// <summary>Makes A's rows contiguous and of the compute type, unless they are.</summary>
    private static void PackA(ref GemmCall<T> call)
    {
        if (!call.A.Transposed && call.A.Type == CpuStorage.DTypeOf<T>())
        {
            return;
        }

        long size = (long)call.M * call.K;
        T* packed = CpuScratch.Get<T>(CpuScratch.Slot.Shared, size * call.Batch);
        for (int item = 0; item < call.Batch; item++)
        {
            // A panel "of B" of width 1 is one contiguous row of op(A): op(A)ᵀ has the flag the other way round.
            GemmMatrix transposed = call.A;
            transposed.Transposed = !call.A.Transposed;
            for (int i = 0; i < call.M; i++)
            {
                CpuGemmPack.PanelB(transposed, item, i, 1, 0, call.K, packed + (item * size) + ((long)i * call.K), 1);
            }
        }

        call.A = new GemmMatrix(packed, CpuStorage.DTypeOf<T>(), false, call.K, size);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Task(GemmCall<T>* call, int index)
    {
        (int item, int tile) = Math.DivRem(index, call->TilesN);
        int begin = tile * call->TileN;
        int columns = Math.Min(call->TileN, call->N - begin);
        int stride = call->TileN;
        int k = call->K;
        bool convert = call->B.Type != CpuStorage.DTypeOf<T>();
        T* rows = convert ? CpuScratch.Get<T>(CpuScratch.Slot.Operand, 4L * k) : null;
        T* block = CpuScratch.Get<T>(CpuScratch.Slot.Block, (long)stride * (call->M + 3));
        nint step = (nint)call->A.Stride;
        T** b = stackalloc T*[4];
        for (int j = 0; j < columns; j += 4)
        {
            for (int q = 0; q < 4; q++)
            {
                // Beyond the end the last row is computed again and not stored.
                byte* row = call->B.At(item, begin + Math.Min(j + q, columns - 1), 0);
                b[q] = (T*)row;
                if (convert)
                {
                    b[q] = rows + ((long)q * k);
                    CpuStorage.Load(call->B.Type, row, b[q], k);
                }
            }

            int i = 0;
            for (; i + 1 < call->M; i += 4)
            {
                int last = Math.Min(3, call->M - 1 - i);
                T* a = (T*)call->A.At(item, i, 0);
                Dot4x4(a, a + (Math.Min(1, last) * step), a + (Math.Min(2, last) * step), a + (Math.Min(3, last) * step), b, k, block + (i * stride) + j, stride);
            }

            if (i < call->M)
            {
                Dot1x4((T*)call->A.At(item, i, 0), b, k, block + (i * stride) + j);
            }
        }

        CpuGemmOutput.Block(call->C, item, 0, begin, call->M, columns, block, stride, call->Alpha, call->Beta);
    }

    /// <summary>sums[q] = a · b[q]; two accumulators for each, since a sum waits for the one before it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dot1x4(T* a, T** b, int k, T* sums)
    {
        T* b0 = b[0];
        T* b1 = b[1];
        T* b2 = b[2];
        T* b3 = b[3];
        TVector s0 = TSimd.Zero, s1 = s0, s2 = s0, s3 = s0;
        TVector t0 = s0, t1 = s0, t2 = s0, t3 = s0;
        int p = 0;
        for (; p <= k - (2 * TSimd.Count); p += 2 * TSimd.Count)
        {
            TVector x = TSimd.Load(a + p);
            TVector y = TSimd.Load(a + p + TSimd.Count);
            s0 = TSimd.Fma(x, TSimd.Load(b0 + p), s0);
            s1 = TSimd.Fma(x, TSimd.Load(b1 + p), s1);
            s2 = TSimd.Fma(x, TSimd.Load(b2 + p), s2);
            s3 = TSimd.Fma(x, TSimd.Load(b3 + p), s3);
            t0 = TSimd.Fma(y, TSimd.Load(b0 + p + TSimd.Count), t0);
            t1 = TSimd.Fma(y, TSimd.Load(b1 + p + TSimd.Count), t1);
            t2 = TSimd.Fma(y, TSimd.Load(b2 + p + TSimd.Count), t2);
            t3 = TSimd.Fma(y, TSimd.Load(b3 + p + TSimd.Count), t3);
        }

        TSimd.Sum4(TSimd.Add(s0, t0), TSimd.Add(s1, t1), TSimd.Add(s2, t2), TSimd.Add(s3, t3), sums);
        for (; p < k; p++)
        {
            sums[0] += a[p] * b0[p];
            sums[1] += a[p] * b1[p];
            sums[2] += a[p] * b2[p];
            sums[3] += a[p] * b3[p];
        }
    }

    /// <summary>sums[i·stride + q] = a_i · b[q].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dot4x4(T* a0, T* a1, T* a2, T* a3, T** b, int k, T* sums, int stride)
    {
        T* b0 = b[0];
        T* b1 = b[1];
        T* b2 = b[2];
        T* b3 = b[3];
        TVector s00 = TSimd.Zero, s01 = s00, s02 = s00, s03 = s00;
        TVector s10 = s00, s11 = s00, s12 = s00, s13 = s00;
        TVector s20 = s00, s21 = s00, s22 = s00, s23 = s00;
        TVector s30 = s00, s31 = s00, s32 = s00, s33 = s00;
        int p = 0;
        for (; p <= k - TSimd.Count; p += TSimd.Count)
        {
            TVector w0 = TSimd.Load(b0 + p);
            TVector w1 = TSimd.Load(b1 + p);
            TVector w2 = TSimd.Load(b2 + p);
            TVector w3 = TSimd.Load(b3 + p);
            TVector x = TSimd.Load(a0 + p);
            s00 = TSimd.Fma(x, w0, s00);
            s01 = TSimd.Fma(x, w1, s01);
            s02 = TSimd.Fma(x, w2, s02);
            s03 = TSimd.Fma(x, w3, s03);
            x = TSimd.Load(a1 + p);
            s10 = TSimd.Fma(x, w0, s10);
            s11 = TSimd.Fma(x, w1, s11);
            s12 = TSimd.Fma(x, w2, s12);
            s13 = TSimd.Fma(x, w3, s13);
            x = TSimd.Load(a2 + p);
            s20 = TSimd.Fma(x, w0, s20);
            s21 = TSimd.Fma(x, w1, s21);
            s22 = TSimd.Fma(x, w2, s22);
            s23 = TSimd.Fma(x, w3, s23);
            x = TSimd.Load(a3 + p);
            s30 = TSimd.Fma(x, w0, s30);
            s31 = TSimd.Fma(x, w1, s31);
            s32 = TSimd.Fma(x, w2, s32);
            s33 = TSimd.Fma(x, w3, s33);
        }

        Sums(s00, s01, s02, s03, a0, b, p, k, sums);
        Sums(s10, s11, s12, s13, a1, b, p, k, sums + stride);
        Sums(s20, s21, s22, s23, a2, b, p, k, sums + (2 * stride));
        Sums(s30, s31, s32, s33, a3, b, p, k, sums + (3 * stride));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Sums(TVector s0, TVector s1, TVector s2, TVector s3, T* a, T** b, int p, int k, T* sums)
    {
        TSimd.Sum4(s0, s1, s2, s3, sums);
        for (; p < k; p++)
        {
            sums[0] += a[p] * b[0][p];
            sums[1] += a[p] * b[1][p];
            sums[2] += a[p] * b[2][p];
            sums[3] += a[p] * b[3][p];
        }
    }
}
