using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using Engine.Kernels.Cpu;

namespace Engine.Kernels;

/// <summary>
/// The blocked product (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008): B is packed
/// once, in parallel, into panels shared by all threads; then each task computes one tile of C, with its rows of A copied
/// block by block into its own cache.
/// </summary>
internal static unsafe class CpuGemmDriver<T, TVector, TSimd>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
    where TVector : unmanaged
    where TSimd : struct, ICpuSimd<TVector, T>
{
    /// <summary>Bytes of B packed at a time: stays in the last-level cache.</summary>
    private const long PackedBytes = 16L << 20;

    /// <summary>A problem below this many operations (some 5 µs) is not worth waking a thread for.</summary>
    private const double InlineFlops = 5e5;

    /// <summary>Steps of k at most: a panel of B and the rows of A in use fit the nearest caches.</summary>
    private const int LongestStep = 384;

    /// <summary>The same where B is read in place and fetched ahead: a strip of it stays in the second-level cache.</summary>
    private const int DirectStep = 128;

    private const int WantedTasks = 48;

    private static int TallTile => 8 * TSimd.MaxRows;

    /// <summary>Rows up to which B is read in place: each of its elements is then used too rarely to pay for a copy.</summary>
    private static int DirectRows => 2 * TSimd.MaxRows;

    public static void Run(ref GemmCall<T> problem)
    {
        GemmCall<T> call = problem;
        Plan(ref call);
        bool inline = call.Flops < InlineFlops;
        bool sharedB = call.B.BatchStride == 0 && call.LastK == call.K;
        long itemElements = (long)call.K * GemmCall<T>.RoundUp(call.N, call.Panel);
        long limit = PackedBytes / sizeof(T);
        int columns = call.DirectB ? call.N : (int)Math.Min(call.N, Math.Max(1, limit / ((long)call.K * call.TileN)) * call.TileN);
        int items = call.DirectB || sharedB ? call.Batch : (int)Math.Clamp(limit / itemElements, 1, call.Batch);
        for (int item = 0; item < call.Batch; item += items)
        {
            for (int j = 0; j < call.N; j += columns)
            {
                (call.FirstItem, call.Items) = (item, Math.Min(items, call.Batch - item));
                (call.FirstColumn, call.Columns) = (j, Math.Min(columns, call.N - j));
                Pass(&call, inline, sharedB);
            }
        }
    }

    private static void Plan(ref GemmCall<T> call)
    {
        int width = 2 * TSimd.Count;
        call.Panel = call.N <= TSimd.Count ? TSimd.Count : width;
        call.DirectA = !call.A.Transposed && call.A.Type == CpuStorage.DTypeOf<T>() && call.N <= width && call.A.Stride * sizeof(T) % 4096 != 0;
        call.DirectB = !call.B.Transposed && call.B.Type == CpuStorage.DTypeOf<T>() && call.M <= DirectRows;
        call.StepK = GemmCall<T>.EvenPiece(call.K, call.DirectB ? DirectStep : LongestStep, 16);

        // Wide tiles copy A less often, tall ones read B less often; small ones give more tasks to share out. 2 Mflop are
        // some 20 µs of one core. A transposed A is read in pieces as long as the tile is tall: those stay tall.
        int rows = TallTile;
        int shortest = call.A.Transposed ? TallTile : 2 * TSimd.MaxRows;
        call.TileN = GemmCall<T>.EvenPiece(call.N, 16 * width, call.Panel);
        if (Tasks(call, shortest) < WantedTasks)
        {
            call.TileN = GemmCall<T>.EvenPiece(call.N, 8 * width, call.Panel);
        }

        while (rows > shortest && Tasks(call, rows) < WantedTasks && 2.0 * rows * call.TileN * call.K > 2e6)
        {
            rows /= 2;
        }

        call.TileM = GemmCall<T>.EvenPiece(call.M, rows, TSimd.MaxRows);
    }

    private static long Tasks(in GemmCall<T> call, int rows) =>
        (long)call.Batch * GemmCall<T>.CeilDiv(call.M, rows) * GemmCall<T>.CeilDiv(call.N, call.TileN);

    private static void Pass(GemmCall<T>* call, bool inline, bool sharedB)
    {
        int panels = GemmCall<T>.CeilDiv(call->Columns, call->Panel);
        int packedItems = sharedB ? 1 : call->Items;
        int packed = call->DirectB ? (call->Columns % call->Panel == 0 ? 0 : 1) : panels;
        long itemElements = (long)packed * call->Panel * call->K;
        call->PackedStride = sharedB ? 0 : itemElements;
        call->Packed = CpuScratch.Get<T>(CpuScratch.Slot.Shared, itemElements * packedItems);
        if (packed > 0)
        {
            // Packing tasks of about 16K elements, cut along the rows that are stored: neighbouring panels share pages.
            call->PackDepth = Math.Min(call->K, call->B.Transposed ? 512 : 64);
            call->PackPanels = Math.Max(1, 16384 / (call->PackDepth * call->Panel));
            int tasks = packedItems * GemmCall<T>.CeilDiv(packed, call->PackPanels) * GemmCall<T>.CeilDiv(call->K, call->PackDepth);
            Loop(inline, tasks, call, static (at, index) => PackTask(ref *(GemmCall<T>*)at, index));
        }

        Loop(inline, call->Items * call->TilesM * call->TilesN, call, static (at, index) => TileTask(ref *(GemmCall<T>*)at, index));
    }

    private static void Loop(bool inline, int tasks, GemmCall<T>* call, Action<nint, int> body)
    {
        if (!inline)
        {
            CpuParallel.For(tasks, (nint)call, body);
            return;
        }

        for (int i = 0; i < tasks; i++)
        {
            body((nint)call, i);
        }
    }

    private static void PackTask(ref GemmCall<T> call, int index)
    {
        int allPanels = GemmCall<T>.CeilDiv(call.Columns, call.Panel);
        int firstPacked = call.DirectB ? allPanels - 1 : 0;
        int groups = GemmCall<T>.CeilDiv(allPanels - firstPacked, call.PackPanels);
        int depths = GemmCall<T>.CeilDiv(call.K, call.PackDepth);
        (int group, int depth) = Math.DivRem(index, depths);
        (int item, group) = Math.DivRem(group, groups);
        int k0 = depth * call.PackDepth;
        int k1 = Math.Min(k0 + call.PackDepth, call.DepthOf(call.FirstItem + item));
        T* packed = call.Packed + (item * call.PackedStride);
        int last = Math.Min(((group + 1) * call.PackPanels) + firstPacked, allPanels);
        for (int panel = (group * call.PackPanels) + firstPacked; panel < last; panel++)
        {
            int j = panel * call.Panel;
            T* to = packed + ((long)(panel - firstPacked) * call.Panel * call.K);
            CpuGemmPack.PanelB(call.B, call.FirstItem + item, call.FirstColumn + j, Math.Min(call.Panel, call.Columns - j), k0, k1, to, call.Panel);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void TileTask(ref GemmCall<T> call, int index)
    {
        // Neighbouring tasks share the columns of B, which then are still in a core's own cache.
        (int tile, int mt) = Math.DivRem(index, call.TilesM);
        (int localItem, int nt) = Math.DivRem(tile, call.TilesN);
        int item = call.FirstItem + localItem;
        int i0 = mt * call.TileM;
        int j0 = nt * call.TileN;
        int rows = Math.Min(call.TileM, call.M - i0);
        int columns = Math.Min(call.TileN, call.Columns - j0);
        int padded = GemmCall<T>.RoundUp(rows, TSimd.RowStep);
        int depth = call.DepthOf(item);
        bool convertC = call.C.Type != CpuStorage.DTypeOf<T>();
        int width = 2 * TSimd.Count;
        int blockStride = convertC ? GemmCall<T>.RoundUp(columns, width) : width;
        T* block = CpuScratch.Get<T>(CpuScratch.Slot.Block, (long)blockStride * (convertC ? padded : TSimd.MaxRows));
        T* a = CpuScratch.Get<T>(CpuScratch.Slot.Operand, CpuGemmPack.BlockSize<T>(padded, TSimd.MaxRows, Math.Min(call.StepK, depth)));
        for (int p = 0; p < depth; p += call.StepK)
        {
            int step = Math.Min(call.StepK, depth - p);
            int direct = call.DirectA ? rows / TSimd.MaxRows * TSimd.MaxRows : 0;
            CpuGemmPack.BlockA(
                call.A, item, i0 + direct, rows - direct, padded - direct, TSimd.MaxRows, p, step, a, out nint rs, out nint cs, out nint panelStride);
            if (call.DirectB)
            {
                FetchB(call, item, p, step, j0, columns);
            }

            T beta = p == 0 ? call.Beta : T.One;
            for (int j = 0; j < columns; j += call.Panel)
            {
                T* b = Panel(call, item, localItem, p, j0 + j, out nint bs);
                int cols = Math.Min(call.Panel, columns - j);
                bool wide = cols > TSimd.Count;
                int full = wide ? width : TSimd.Count;
                T* panelA = a;
                for (int i = 0; i < rows; i += TSimd.MaxRows)
                {
                    T* x = panelA;
                    nint xs = rs;
                    if (i < direct)
                    {
                        x = (T*)call.A.At(item, i0 + i, p);
                        xs = (nint)call.A.Stride;
                    }
                    else
                    {
                        panelA += panelStride;
                    }

                    int high = Math.Min(TSimd.MaxRows, padded - i);
                    if (convertC)
                    {
                        CpuMicroKernel<T, TVector, TSimd>.Run(
                            high, wide, step, x, xs, cs, b, bs, block + ((long)i * blockStride) + j, blockStride, T.One, T.One, p > 0);
                    }
                    else if (cols == full && i + high <= rows)
                    {
                        T* c = (T*)call.C.At(item, i0 + i, call.FirstColumn + j0 + j);
                        CpuMicroKernel<T, TVector, TSimd>.Run(
                            high, wide, step, x, xs, cs, b, bs, c, (nint)call.C.Stride, call.Alpha, beta, beta != T.Zero);
                    }
                    else
                    {
                        CpuMicroKernel<T, TVector, TSimd>.Run(
                            high, wide, step, x, xs, cs, b, bs, block, blockStride, T.One, T.Zero, accumulate: false);
                        CpuGemmOutput.Block(
                            call.C, item, i0 + i, call.FirstColumn + j0 + j, Math.Min(high, rows - i), cols, block, blockStride, call.Alpha, beta);
                    }
                }
            }
        }

        if (convertC)
        {
            CpuGemmOutput.Block(call.C, item, i0, call.FirstColumn + j0, rows, columns, block, blockStride, call.Alpha, call.Beta);
        }
    }

    /// <summary>
    /// Brings rows of B that are read in place nearer, in the order they are stored in: panel by panel the kernels would
    /// touch two lines of each row, which no hardware prefetcher follows.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void FetchB(in GemmCall<T> call, int item, int p, int step, int j, int columns)
    {
        if (!Sse.IsSupported || columns <= 4 * TSimd.Count)
        {
            return;
        }

        for (int q = 0; q < step; q++)
        {
            byte* row = call.B.At(item, p + q, call.FirstColumn + j);
            for (nint at = 0; at < (nint)columns * sizeof(T); at += 64)
            {
                Sse.Prefetch1(row + at);
            }
        }
    }

    /// <summary>Row p of the panel of B that begins at column j of the pass: packed, or where it lies.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static T* Panel(in GemmCall<T> call, int item, int localItem, int p, int j, out nint bs)
    {
        if (call.DirectB && j + call.Panel <= call.Columns)
        {
            bs = (nint)call.B.Stride;
            return (T*)call.B.At(item, p, call.FirstColumn + j);
        }

        bs = call.Panel;
        long panel = call.DirectB ? 0 : j / call.Panel;
        return call.Packed + (localItem * call.PackedStride) + (((panel * call.K) + p) * call.Panel);
    }
}
