using System.Numerics;
using Engine.Kernels.Cpu;

namespace Engine.Kernels;

/// <summary>Chooses how a product is computed, from its sizes alone.</summary>
internal static unsafe class CpuGemmPaths<T, TVector, TSimd>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
    where TVector : unmanaged
    where TSimd : struct, ICpuSimd<TVector, T>
{
    /// <summary>Pieces that k is cut into at most, and the shortest piece worth it.</summary>
    private const int MaxPieces = 32;
    private const int ShortestPiece = 512;

    public static void Run(ref GemmCall<T> call)
    {
        if (CpuGemmDot<T, TVector, TSimd>.Takes(call))
        {
            CpuGemmDot<T, TVector, TSimd>.Run(ref call);
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
        const double SmallResult = 128 * 1024;
        if (call.Batch > 1 || call.K < 2 * ShortestPiece || (double)call.M * call.N > SmallResult)
        {
            return 1;
        }

        int wanted = (int)Math.Min(MaxPieces, Math.Ceiling(SmallResult / ((double)call.M * call.N)));
        return Math.Min(wanted, call.K / ShortestPiece);
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
