using System.Numerics;
using Engine.Kernels.Cpu;

namespace Engine.Kernels;

/// <summary>Chooses how a product is computed, from its sizes alone.</summary>
internal static unsafe class CpuGemmPaths<T, TVector, TSimd>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
    where TVector : unmanaged
    where TSimd : struct, ICpuSimd<TVector, T>
{
    /// <summary>Columns of a result that is computed transposed.</summary>
    private const int MaxSwappedColumns = 24;

    /// <summary>k is cut until there are this many tasks, into pieces not shorter than this.</summary>
    private const int WantedTasks = 24;
    private const int ShortestPiece = 512;

    public static void Run(ref GemmCall<T> call)
    {
        if (CpuGemmDot<T, TVector, TSimd>.Takes(call))
        {
            CpuGemmDot<T, TVector, TSimd>.Run(ref call);
        }
        else if (call.A.Transposed && !call.B.Transposed && call.Batch == 1 && call.N <= MaxSwappedColumns && call.N < call.M)
        {
            RunSwapped(ref call);
        }
        else if (Pieces(call) is int pieces and > 1)
        {
            RunPieces(ref call, pieces);
        }
        else
        {
            CpuGemmDriver<T, TVector, TSimd>.Run(ref call);
        }
    }

    /// <summary>
    /// A small C with long sums (the gradient of an adapter's matrix: k is the number of tokens) has too few tiles to
    /// occupy the cores; then k is cut too.
    /// </summary>
    private static int Pieces(in GemmCall<T> call)
    {
        if (call.Batch > 1 || call.K < 2 * ShortestPiece)
        {
            return 1;
        }

        double tiles = Math.Ceiling(call.M / 96.0) * Math.Ceiling(call.N / 512.0);
        return (int)Math.Min(Math.Ceiling(WantedTasks / tiles), call.K / ShortestPiece);
    }

    private static void RunPieces(ref GemmCall<T> call, int pieces)
    {
        int depth = GemmCall<T>.RoundUp(GemmCall<T>.CeilDiv(call.K, pieces), 16);
        pieces = GemmCall<T>.CeilDiv(call.K, depth);
        long size = (long)call.M * call.N;
        T* partial = CpuScratch.Get<T>(CpuScratch.Slot.Partial, size * pieces);
        GemmCall<T> piece = call;
        piece.Batch = pieces;
        piece.K = depth;
        piece.LastK = call.K - ((pieces - 1) * depth);
        piece.A.BatchStride = call.A.Transposed ? depth * call.A.Stride : depth;
        piece.B.BatchStride = call.B.Transposed ? depth : depth * call.B.Stride;
        piece.C = new GemmMatrix(partial, CpuStorage.DTypeOf<T>(), false, call.N, size);
        (piece.Alpha, piece.Beta) = (T.One, T.Zero);
        CpuGemmDriver<T, TVector, TSimd>.Run(ref piece);

        GemmCall<T> sum = call;
        sum.Packed = partial;
        sum.Items = pieces;
        GemmCall<T>* at = &sum;
        CpuParallel.ForRange(call.M, Math.Max(1, 65536 / (call.N * pieces)), (nint)at, static (state, begin, end) =>
            SumRows((GemmCall<T>*)state, (int)begin, (int)end));
    }

    /// <summary>
    /// C = AᵀB with few columns (the gradient of an adapter's up-projection) as Cᵀ = BᵀA: then the large A is the operand
    /// read row by row, in whole vectors.
    /// </summary>
    private static void RunSwapped(ref GemmCall<T> call)
    {
        T* result = CpuScratch.Get<T>(CpuScratch.Slot.Result, (long)call.M * call.N);
        GemmCall<T> swapped = call;
        (swapped.M, swapped.N, swapped.A, swapped.B) = (call.N, call.M, call.B, call.A);
        swapped.A.Transposed = true;
        swapped.B.Transposed = false;
        swapped.C = new GemmMatrix(result, CpuStorage.DTypeOf<T>(), false, call.M, 0);
        (swapped.Alpha, swapped.Beta) = (T.One, T.Zero);
        Run(ref swapped);

        T* row = stackalloc T[MaxSwappedColumns];
        for (int i = 0; i < call.M; i++)
        {
            for (int j = 0; j < call.N; j++)
            {
                row[j] = result[((long)j * call.M) + i];
            }

            CpuGemmOutput.Block(call.C, 0, i, 0, 1, call.N, row, call.N, call.Alpha, call.Beta);
        }
    }

    /// <summary>Adds the pieces in order of k, into the first, and writes C.</summary>
    private static void SumRows(GemmCall<T>* call, int begin, int end)
    {
        long size = (long)call->M * call->N;
        T* first = call->Packed + ((long)begin * call->N);
        int count = (end - begin) * call->N;
        for (int piece = 1; piece < call->Items; piece++)
        {
            T* next = first + (piece * size);
            int i = 0;
            for (; i <= count - TSimd.Count; i += TSimd.Count)
            {
                TSimd.Store(TSimd.Add(TSimd.Load(first + i), TSimd.Load(next + i)), first + i);
            }

            for (; i < count; i++)
            {
                first[i] += next[i];
            }
        }

        CpuGemmOutput.Block(call->C, 0, begin, 0, end - begin, call->N, first, call->N, call->Alpha, call->Beta);
    }
}
