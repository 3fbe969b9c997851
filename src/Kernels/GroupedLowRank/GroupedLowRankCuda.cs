using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>Launches of <c>kernels-cu/groupedlowrank</c>.</summary>
internal static class GroupedLowRankCuda
{
    private const string Op = "GroupedLowRank";
    private const int ShortTile = 16;
    private const int LongTile = 64;

    // Rows of the batch with fewer rows of activations get short tiles.
    private const int LongTokens = 32;

    private const uint Threads = 128;
    private const int SliceRanks = 64;
    private const int ExpandOutputs = 512;
    private const uint BackwardThreads = 256;
    private const int BackwardRanks = 16;
    private const int BackwardColumns = 64;

    // Long dimensions are cut until a launch has this many blocks, but into pieces of at least LeastSplit; by sizes alone, so
    // that a sum has the same bits on every GPU. The unit is what the warps of a block take in one turn.
    private const int ShortBlocks = 512;
    private const int LongBlocks = 256;
    private const int LeastSplit = 256;
    private const int SplitUnit = 128;

    // Both halves of the forward are one launch up to so many tiles of 16 rows, and one block each up to so many ranks.
    private const int FewRanks = 16;
    private const int MostCountedTiles = 4096;
    private const int CounterBytes = MostCountedTiles * 2 * sizeof(uint);

    private static readonly ConcurrentDictionary<CudaDevice, nint> s_counters = new();
    private static readonly KernelFamily<ShrinkParams> s_shrinkShort = new("groupedlowrank", "groupedlowrank_shrink_t16");
    private static readonly KernelFamily<ShrinkParams> s_shrinkLong = new("groupedlowrank", "groupedlowrank_shrink_t64");
    private static readonly KernelFamily<ExpandParams> s_expandShort = new("groupedlowrank", "groupedlowrank_expand_t16");
    private static readonly KernelFamily<ExpandParams> s_expandLong = new("groupedlowrank", "groupedlowrank_expand_t64");
    private static readonly KernelFamily<ForwardParams> s_forwardShort = new("groupedlowrank", "groupedlowrank_forward_t16");
    private static readonly KernelFamily<ForwardParams> s_forwardFewRanks = new("groupedlowrank", "groupedlowrank_forward_r16");
    private static readonly KernelFamily<BackwardParams> s_ds = new("groupedlowrank", "groupedlowrank_bwd_ds");
    private static readonly KernelFamily<BackwardParams> s_dx = new("groupedlowrank", "groupedlowrank_bwd_dx");
    private static readonly KernelFamily<BackwardParams> s_dw = new("groupedlowrank", "groupedlowrank_bwd_dw");

    /// <summary>Shape of sums over splits of <paramref name="depth"/>, f32: [splits, rows, the largest rank rounded up to 16].</summary>
    public static Shape SumsShape(int count, AdapterRows rows, AdapterTable table, int depth)
    {
        (int splits, _) = Splits(count, rows, table, depth);
        return [splits, count, Stride(table)];
    }

    /// <summary>The arguments have been checked.</summary>
    public static void Forward(RowMatrix x, AdapterRows rows, AdapterTable table, RowMatrix y, Tensor? saved, Device device)
    {
        RequireLike(x, y);
        if (x.Rows == 0 || table.Rank == 0)
        {
            return;
        }

        AdapterPlan plan = PlanOf(x.Rows, rows, table);
        (int splits, int splitInputs) = Splits(x.Rows, rows, table, table.Inputs);
        using Tensor? scratch = saved is null ? Tensor.Empty(SumsShape(x.Rows, rows, table, table.Inputs), DType.F32, device) : null;
        Tensor sums = saved ?? scratch!;
        bool isLong = plan.Tile == LongTile;
        uint slices = (uint)CudaLaunch.CeilDiv(table.Rank, SliceRanks);
        uint parts = (uint)CudaLaunch.CeilDiv(y.Columns, ExpandOutputs);
        int stride = Stride(table);
        long size = x.DType.Size();
        uint shared = (uint)(x.DType == DType.F32 ? ShortTile * stride * sizeof(float) : plan.Tile * (stride + 8) * size);
        long ranks = UsedRanks(table, plan);
        long sumBytes = 4L * splits * x.Rows * table.Rank;
        var shrinkWork = new KernelWork((size * (ranks + x.Rows) * x.Columns) + sumBytes, 2L * x.Rows * table.Rank * x.Columns);
        var expandWork = new KernelWork((size * (ranks + (2L * y.Rows)) * y.Columns) + sumBytes, 2L * y.Rows * table.Rank * y.Columns);
        var shrink = new ShrinkParams
        {
            X = x.Address,
            Table = table.Cuda.Entries,
            Plan = plan.Parameters,
            Sums = SumsOf(sums),
            XStride = x.Stride,
            Adapters = table.Count,
            Inputs = x.Columns,
            SplitInputs = splitInputs,
            Vectors = Vectors(x),
        };
        var expand = new ExpandParams
        {
            Table = table.Cuda.Entries,
            Y = y.Address,
            Plan = plan.Parameters,
            Sums = SumsOf(sums),
            YStride = y.Stride,
            Adapters = table.Count,
            Outputs = y.Columns,
            Vectors = Vectors(y),
        };
        if (!isLong && x.DType != DType.F32 && plan.MostTiles <= MostCountedTiles)
        {
            bool few = table.Rank <= FewRanks && splits <= ((CudaDevice)device).Context.Multiprocessors;
            (few ? s_forwardFewRanks : s_forwardShort).Launch(
                device,
                x.DType,
                few
                    ? new LaunchShape(Math.Max((uint)splits, parts), (uint)plan.MostTiles, 1, Threads)
                    : new LaunchShape((uint)plan.MostTiles, ((uint)splits * slices) + parts, 1, Threads, shared),
                new ForwardParams
                {
                    Shrink = shrink,
                    Expand = expand,
                    Counters = s_counters.GetOrAdd((CudaDevice)device, Reserve),
                    Slices = (int)slices,
                    Parts = (int)parts,
                },
                new KernelWork(shrinkWork.Bytes + expandWork.Bytes, shrinkWork.Flops + expandWork.Flops));
            return;
        }

        (isLong ? s_shrinkLong : s_shrinkShort).Launch(
            device, x.DType, new LaunchShape((uint)plan.MostTiles, (uint)splits, slices, Threads), in shrink, shrinkWork);
        (isLong ? s_expandLong : s_expandShort).Launch(
            device, x.DType, new LaunchShape((uint)plan.MostTiles, parts, 1, Threads, shared), in expand, expandWork);
    }

    /// <summary>The arguments have been checked; gradients may be absent.</summary>
    public static void Backward(
        RowMatrix dy, RowMatrix x, AdapterRows rows, AdapterTable table, Tensor saved, RowMatrix dx, ReadOnlySpan<GroupedGradient> gradients, Device device)
    {
        RequireLike(x, dy);
        RequireLike(x, dx);
        if (x.Rows == 0 || table.Rank == 0)
        {
            return;
        }

        AdapterPlan plan = PlanOf(x.Rows, rows, table);
        (int splits, int splitOutputs) = Splits(x.Rows, rows, table, table.Outputs);
        using Tensor dSums = Tensor.Empty(SumsShape(x.Rows, rows, table, table.Outputs), DType.F32, device);
        var parameters = new BackwardParams
        {
            Dy = dy.Address,
            X = x.Address,
            Dx = dx.Address,
            Table = table.Cuda.Entries,
            Gradients = table.Cuda.Gradients,
            Plan = plan.Parameters,
            Sums = SumsOf(saved),
            DSums = SumsOf(dSums),
            DyStride = dy.Stride,
            XStride = x.Stride,
            DxStride = dx.Stride,
            Adapters = table.Count,
            Inputs = table.Inputs,
            Outputs = table.Outputs,
            SplitOutputs = splitOutputs,
            Tile = plan.Tile,
        };
        uint rankTiles = (uint)CudaLaunch.CeilDiv(table.Rank, BackwardRanks);
        long size = x.DType.Size();
        long ranks = UsedRanks(table, plan);
        s_ds.Launch(
            device,
            x.DType,
            new LaunchShape((uint)plan.MostTiles, (uint)splits, rankTiles, BackwardThreads),
            in parameters,
            new KernelWork(size * (ranks + x.Rows) * table.Outputs, 2L * x.Rows * table.Rank * table.Outputs));
        if (dx.Exists)
        {
            s_dx.Launch(
                device,
                x.DType,
                new LaunchShape((uint)plan.MostTiles, (uint)CudaLaunch.CeilDiv(table.Inputs, BackwardColumns), 1, BackwardThreads),
                in parameters,
                new KernelWork(size * (ranks + (2L * x.Rows)) * table.Inputs, 2L * x.Rows * table.Rank * table.Inputs));
        }

        if (!gradients.IsEmpty)
        {
            table.Cuda.Bind(gradients);
            long columns = Math.Max(table.Inputs, table.Outputs);
            s_dw.Launch(
                device,
                x.DType,
                new LaunchShape((uint)CudaLaunch.CeilDiv(columns, BackwardColumns), (uint)plan.MostSegments, 2 * rankTiles, BackwardThreads),
                in parameters,
                new KernelWork(
                    ((size * x.Rows) + (8 * ranks)) * (table.Inputs + (long)table.Outputs),
                    2L * x.Rows * table.Rank * (table.Inputs + (long)table.Outputs)));
        }
    }

    private static AdapterPlan PlanOf(int count, AdapterRows rows, AdapterTable table) =>
        rows.Plan(count / rows.Count, TileOf(count, rows, table));

    private static int TileOf(int count, AdapterRows rows, AdapterTable table) =>
        table.Activations != DType.F32 && count / Math.Max(rows.Count, 1) >= LongTokens ? LongTile : ShortTile;

    // The most ranks that the batch can use: for profiles.
    private static long UsedRanks(AdapterTable table, AdapterPlan plan) => (long)table.Rank * Math.Min(table.Count, plan.MostSegments);

    private static (int Splits, int Length) Splits(int count, AdapterRows rows, AdapterTable table, int depth)
    {
        int tile = TileOf(count, rows, table);
        long tiles = Math.Max(1, (count / tile) + Math.Min(rows.Count, AdapterTable.MostAdapters));
        long splits = CudaLaunch.CeilDiv(tile == LongTile ? LongBlocks : ShortBlocks, tiles);
        splits = Math.Clamp(splits, 1, Math.Max(1, depth / LeastSplit));
        int length = (int)(CudaLaunch.CeilDiv(CudaLaunch.CeilDiv(depth, splits), SplitUnit) * SplitUnit);
        return (Math.Max(1, (int)CudaLaunch.CeilDiv(depth, length)), length);
    }

    private static int Stride(AdapterTable table) => (table.Rank + 15) / 16 * 16;

    private static nint Reserve(CudaDevice device)
    {
        nint counters = device.Reserve(CounterBytes);
        device.Clear(counters, CounterBytes);
        return counters;
    }

    private static SplitSums SumsOf(Tensor sums) => new()
    {
        Data = sums.Pointer,
        SplitStride = sums.Strides[0],
        Stride = sums.Shape[2],
        Splits = sums.Shape[0],
    };

    private static int Vectors(RowMatrix m) =>
        CudaLaunch.Aligned(m.Address) && m.Stride * m.DType.Size() % 16 == 0 && m.Columns * m.DType.Size() % 16 == 0 ? 1 : 0;

    private static void RequireLike(RowMatrix x, RowMatrix other)
    {
        if (other.Exists && other.DType != x.DType)
        {
            throw new NotSupportedException($"{Op} takes activations of one dtype on a GPU, not {x.DType.Name()} and {other.DType.Name()}");
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SplitSums
    {
        public nint Data;
        public long SplitStride;
        public int Stride;
        public int Splits;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ShrinkParams
    {
        public nint X;
        public nint Table;
        public AdapterPlan.RowPlan Plan;
        public SplitSums Sums;
        public long XStride;
        public int Adapters;
        public int Inputs;
        public int SplitInputs;
        public int Vectors;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ExpandParams
    {
        public nint Table;
        public nint Y;
        public AdapterPlan.RowPlan Plan;
        public SplitSums Sums;
        public long YStride;
        public int Adapters;
        public int Outputs;
        public int Vectors;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ForwardParams
    {
        public ShrinkParams Shrink;
        public ExpandParams Expand;
        public nint Counters;
        public int Slices;
        public int Parts;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct BackwardParams
    {
        public nint Dy;
        public nint X;
        public nint Dx;
        public nint Table;
        public nint Gradients;
        public AdapterPlan.RowPlan Plan;
        public SplitSums Sums;
        public SplitSums DSums;
        public long DyStride;
        public long XStride;
        public long DxStride;
        public int Adapters;
        public int Inputs;
        public int Outputs;
        public int SplitOutputs;
        public int Tile;
    }
}
