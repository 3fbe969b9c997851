using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>Launches of <c>kernels-cu/gemv</c>.</summary>
internal static class GemvCuda
{
    private const string Op = "Gemv";
    private const int ShortRows = 8;

    // 8 warps that stream and 2 or 4 beside them: ShortThreads and LongThreads in gemv.cu.
    private const int ShortThreads = 320;
    private const int LongThreads = 384;

    // Rows of W a tile: up to ShortRows rows of x, and more.
    private const int ShortTile = 16;
    private const int LongTile = 32;
    private const int RankTile = 16;

    // S is summed over up to this many splits of K, each of at least so many columns; a split is whole turns of one warp. Many
    // ranks are units enough without, and what each block has to read grows with both.
    private const int MostSplits = 8;
    private const int ManyRanks = 64;
    private const int SplitsOfManyRanks = 4;
    private const int LeastSplit = 512;
    private const int SplitUnit = 32;

    // Two counters, then the partial sums: [splits][rank][8 or 16].
    private const int CounterBytes = 256;
    private const int WorkspaceBytes = CounterBytes + (MostSplits * Gemv.MostRank * Gemv.MostRows * sizeof(float));

    private static readonly KernelFamily<GemvParams> s_short = new("gemv", "gemv_lora_m8");
    private static readonly KernelFamily<GemvParams> s_long = new("gemv", "gemv_lora_m16");

    private static readonly ConcurrentDictionary<CudaDevice, nint> s_workspaces = new();
    private static readonly ConcurrentDictionary<(CudaDevice Device, DType DType, bool Short), int> s_residents = new();

    /// <summary>The arguments have been checked; <paramref name="a"/> and <paramref name="b"/> may be absent.</summary>
    public static void Run(
        RowMatrix x, RowMatrix w, Tensor? bias, RowMatrix a, RowMatrix b, float scale, RowMatrix y, Device device)
    {
        RequireLike(x, w);
        RequireLike(x, a);
        RequireLike(x, b);
        RequireLike(x, y);
        int biasType = bias is null ? 0 : KernelTypes.Code(Op, bias);
        if (x.Rows == 0 || w.Rows == 0)
        {
            return;
        }

        var cuda = (CudaDevice)device;
        bool isShort = x.Rows <= ShortRows;
        KernelFamily<GemvParams> kernels = isShort ? s_short : s_long;
        nint workspace = s_workspaces.GetOrAdd(cuda, Reserve);
        int threads = isShort ? ShortThreads : LongThreads;
        int resident = s_residents.GetOrAdd(
            (cuda, x.DType, isShort),
            static (key, use) =>
                use.Kernels.Of(key.Device, key.DType).BlocksPerMultiprocessor(use.Threads) * key.Device.Context.Multiprocessors,
            (Kernels: kernels, Threads: threads));
        int rank = a.Rows;
        int splits = Math.Clamp(x.Columns / LeastSplit, 1, rank > ManyRanks ? SplitsOfManyRanks : MostSplits);
        int splitInputs = (int)CudaLaunch.CeilDiv(CudaLaunch.CeilDiv(Math.Max(x.Columns, 1), splits), SplitUnit) * SplitUnit;
        splits = Math.Max(1, (int)CudaLaunch.CeilDiv(x.Columns, splitInputs));
        int vectors = (Aligned(x) && Aligned(w) ? 1 : 0) | (Aligned(x) && Aligned(a) ? 2 : 0) | (AlignedRows(b) ? 4 : 0);
        // Blocks of their own for S, as long as all blocks are resident together.
        long blocks = CudaLaunch.CeilDiv(w.Rows, isShort ? ShortTile : LongTile) + (CudaLaunch.CeilDiv(rank, RankTile) * splits);
        kernels.Launch(
            device,
            x.DType,
            LaunchShape.Blocks(Math.Min(resident, blocks), (uint)threads),
            new GemvParams
            {
                X = x.Address,
                W = w.Address,
                Bias = CudaLaunch.PointerOf(bias),
                A = a.Address,
                B = b.Address,
                Y = y.Address,
                Counters = workspace,
                Partial = workspace + CounterBytes,
                XStride = x.Stride,
                WStride = w.Stride,
                AStride = a.Stride,
                BStride = b.Stride,
                YStride = y.Stride,
                Rows = x.Rows,
                Outputs = w.Rows,
                Inputs = x.Columns,
                Rank = rank,
                Splits = splits,
                SplitInputs = splitInputs,
                BiasType = biasType,
                Vectors = vectors,
                Scale = scale,
            },
            new KernelWork(
                x.DType.Size() * (((long)w.Rows * w.Columns) + ((long)rank * (w.Rows + w.Columns)) + ((long)x.Rows * (w.Rows + w.Columns))),
                2L * x.Rows * (((long)w.Rows * w.Columns) + ((long)rank * (w.Rows + w.Columns)))));
    }

    private static nint Reserve(CudaDevice device)
    {
        nint workspace = device.Reserve(WorkspaceBytes);
        device.Clear(workspace, WorkspaceBytes);
        return workspace;
    }

    // All rows begin at multiples of 16 bytes; in the second form they have whole groups of 8 elements too.
    private static bool AlignedRows(RowMatrix m) => CudaLaunch.Aligned(m.Address) && m.Stride % 8 == 0;

    private static bool Aligned(RowMatrix m) => AlignedRows(m) && m.Columns % 8 == 0;

    private static void RequireLike(RowMatrix x, RowMatrix other)
    {
        if (x.DType is not (DType.BF16 or DType.F16) || (other.Exists && other.DType != x.DType))
        {
            throw new NotSupportedException(
                $"{Op} computes on a GPU where all matrices are bf16 or all are f16; there are {x.DType.Name()} and {(other.Exists ? other : x).DType.Name()}");
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct GemvParams
    {
        public nint X;
        public nint W;
        public nint Bias;
        public nint A;
        public nint B;
        public nint Y;
        public nint Counters;
        public nint Partial;
        public long XStride;
        public long WStride;
        public long AStride;
        public long BStride;
        public long YStride;
        public int Rows;
        public int Outputs;
        public int Inputs;
        public int Rank;
        public int Splits;
        public int SplitInputs;
        public int BiasType;
        public int Vectors;
        public float Scale;
    }
}
