using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <remarks>
/// S of narrow borders and a short K is our kernel's, others the library's: see <c>MostDownColumns</c>. Behind a gate the pass that
/// forms X makes S on the way. The gradients of bf16 and f16 with borders up to 64 columns are our kernels', which read each large operand
/// once. Wider ones, f32, what is not aligned to 16 bytes, and GPUs whose blocks have too little shared memory take products.
/// </remarks>
internal static partial class LowRankCuda
{
    private const string Image = "lowrank";
    private const int MostWidth = 64;
    private const int GroupRows = 64;
    private const int GradientColumns = 128;
    private const int GradientStages = 5;
    private const int MostLinears = 4;

    // Blocks that run at once: one a multiprocessor of today's GPUs. A constant, so that a sum has the same bits on every GPU.
    private const int GradientBlocks = 132;

    // What a wave of blocks costs before and after its tiles, in tiles, the partial sums it leaves included: an estimate.
    private const int GradientWaveTiles = 6;

    // Of dS where sums over rows are formed too, all of which each thread that adds up dA reads.
    private const int DownBlocksWithSums = 64;

    private static readonly int[] s_yWidths = [8, 16, 32];
    private static readonly int[] s_xWidths = [8, 16, 32, 48, 64];
    private static readonly KernelFamily<GradientParams>[] s_gradY = [.. s_yWidths.Select(w => new KernelFamily<GradientParams>(Image, $"lowrank_grad_y_r{w}"))];
    private static readonly KernelFamily<GradientParams>[] s_gradX = [.. s_xWidths.Select(w => new KernelFamily<GradientParams>(Image, $"lowrank_grad_x_r{w}"))];
    private static readonly KernelFamily<SumParams> s_sum = new(Image, "lowrank_sum");

    /// <summary>The arguments have been checked.</summary>
    public static ScaledGradient? GradientY(
        Tensor dy, BorderedWeight weight, Tensor s, Tensor ds, IReadOnlyList<Tensor?> dB, NormedInput? x)
    {
        if (dy.Shape[0] == 0 || weight.Width == 0)
        {
            return null;
        }

        using Tensor up = weight.Up();
        int most = weight.Slots.Max(static slot => slot.Width);
        bool suits = Suits(most, weight.Outputs, [dy, s, up, ds]) && AllPlain(dB) &&
            weight.Slots.All(static slot => slot.Outputs % 8 == 0);
        if (suits && most <= s_yWidths[^1] && HasShared(dy, GradientShared(Kernel(s_yWidths, most), withDown: true)))
        {
            return GradientYInOnePass(dy, weight, s, up, ds, dB, most, x is { } norm && TakesNormed(norm.X, weight, ds) ? norm : null);
        }

        // Wide ranks would leave more partial sums of dS than there is dY.
        suits = suits && HasShared(dy, GradientShared(Kernel(s_xWidths, most), withDown: false));
        GradientYByProducts(dy, weight, s, up, ds, suits ? new Tensor?[dB.Count] : dB);
        if (suits && dB.Any(static gradient => gradient is not null))
        {
            Gradient(dy, s, Placed(StackOf(weight, dB), GradientColumns), most, isInput: false);
        }

        return null;
    }

    /// <summary>The arguments have been checked.</summary>
    public static void GradientX(Tensor x, BorderedWeight weight, Tensor ds, IReadOnlyList<Tensor?> dA)
    {
        if (x.Shape[0] == 0 || weight.Width == 0 || dA.All(static gradient => gradient is null))
        {
            return;
        }

        if (!Suits(weight.Width, weight.Inputs, [x, ds]) || !AllPlain(dA) ||
            !HasShared(x, GradientShared(Kernel(s_xWidths, weight.Width), withDown: false)))
        {
            for (int i = 0; i < weight.Slots.Count; i++)
            {
                if (dA[i] is { } gradient)
                {
                    using Tensor factor = ds.Slice(1, weight.Slots[i].At, weight.Slots[i].Rank);
                    Accumulate(factor, true, x, false, gradient);
                }
            }

            return;
        }

        GradientOfInput(x, weight, ds, dA, default);
    }

    // One pass over X for all linears, whose columns of the factor are neighbours. The norm, if any, is what the sums are told of it.
    private static void GradientOfInput(Tensor x, BorderedWeight weight, Tensor factor, IReadOnlyList<Tensor?> dA, SumParams norm)
    {
        Stack whole = default;
        whole.Count = 1;
        whole.Linears[0] = new Linear { End = weight.Inputs, Width = weight.Width, Rank = weight.Width, Gradient = 1 };
        int columnBlocks = (int)CudaLaunch.CeilDiv(weight.Inputs, GradientColumns);
        var placed = new Placement(whole, columnBlocks, (long)weight.Width * weight.Inputs);
        Gradient(x, factor, placed, weight.Width, isInput: true, InputStack(weight, dA), norm);
    }

    private static ScaledGradient? GradientYInOnePass(
        Tensor dy, BorderedWeight weight, Tensor s, Tensor up, Tensor ds, IReadOnlyList<Tensor?> dB, int most, NormedInput? x)
    {
        int rows = dy.Shape[0];
        long rowGroups = CudaLaunch.CeilDiv(rows, GroupRows);
        int width = Kernel(s_yWidths, most);
        int index = Array.IndexOf(s_yWidths, width);
        Placement placed = Placed(StackOf(weight, dB), GradientColumns * Groups(width));
        int groupsPerBlock = RowGroupsPerBlock(rowGroups, placed.Blocks, Groups(width));
        int rowBlocks = (int)CudaLaunch.CeilDiv(rowGroups, groupsPerBlock);
        using Tensor partial = Tensor.Empty([rowBlocks, checked((int)placed.Elements)], DType.F32, dy.Device);
        using Tensor downPartial = Tensor.Empty([checked((int)rowGroups), placed.Blocks * GroupRows * width], DType.F32, dy.Device);
        s_gradY[index].Launch(
            dy.Device,
            dy.DType,
            LaunchShape.Blocks((long)rowBlocks * placed.Blocks, 256, GradientShared(width, withDown: true)),
            new GradientParams
            {
                Z = dy.Pointer,
                F = s.Pointer,
                U = up.Pointer,
                Partial = partial.Pointer,
                DownPartial = downPartial.Pointer,
                ZStride = dy.Strides[0],
                FStride = s.Strides[0],
                UStride = up.Strides[0],
                Rows = rows,
                PartialStride = placed.Elements,
                RowGroups = groupsPerBlock,
                ColumnBlocks = placed.Blocks,
                Stack = placed.Stack,
            },
            new KernelWork(dy.ByteLength + s.ByteLength + up.ByteLength + downPartial.ByteLength + partial.ByteLength, 4L * rows * weight.Outputs * most));
        bool gradients = dB.Any(static gradient => gradient is not null);
        int downBlocks = checked((int)CudaLaunch.CeilDiv((long)rows * width / 4, 256));
        if (x?.Mean is not null)
        {
            downBlocks = Math.Min(downBlocks, DownBlocksWithSums);
        }

        ScaledGradient? scaled = x is { } norm ? Unwritten(norm, weight, downBlocks) : null;
        s_sum.Launch(
            dy.Device,
            dy.DType,
            LaunchShape.Blocks(downBlocks + (gradients ? CudaLaunch.CeilDiv(placed.Elements, 256) : 0), 256),
            new SumParams
            {
                Partial = partial.Pointer,
                DownPartial = downPartial.Pointer,
                D = ds.Pointer,
                F = CudaLaunch.PointerOf(scaled?.Factor),
                Rstd = CudaLaunch.PointerOf(x?.Rstd),
                Mean = CudaLaunch.PointerOf(x?.Mean),
                Sums = CudaLaunch.PointerOf(scaled?.Sums),
                PartialStride = placed.Elements,
                Count = gradients ? placed.Elements : 0,
                Rows = rows,
                DStride = ds.Strides[0],
                Parts = rowBlocks,
                ColumnBlocks = placed.Blocks,
                DownWidth = width,
                DownBlocks = downBlocks,
                FWidth = weight.Width,
                Stack = placed.Stack,
            },
            new KernelWork(
                partial.ByteLength + downPartial.ByteLength + ds.ByteLength + (scaled?.Factor.ByteLength ?? 0),
                (rowBlocks * placed.Elements) + ((long)rows * placed.Blocks * width)));
        return scaled;
    }

    // Gradients += the transpose of factor·z by linears, in one pass over z; the sums lie by rank.
    private static void Gradient(Tensor z, Tensor factor, Placement placed, int most, bool isInput, Stack? targets = null, SumParams norm = default)
    {
        int rows = z.Shape[0];
        int index = Array.IndexOf(s_xWidths, Kernel(s_xWidths, most));
        long rowGroups = CudaLaunch.CeilDiv(rows, GroupRows);
        int groupsPerBlock = RowGroupsPerBlock(rowGroups, placed.Blocks, tiles: 1);
        int rowBlocks = (int)CudaLaunch.CeilDiv(rowGroups, groupsPerBlock);
        using Tensor partial = Tensor.Empty([rowBlocks, checked((int)placed.Elements)], DType.F32, z.Device);
        s_gradX[index].Launch(
            z.Device,
            z.DType,
            LaunchShape.Blocks((long)rowBlocks * placed.Blocks, 256, GradientShared(s_xWidths[index], withDown: false)),
            new GradientParams
            {
                Z = z.Pointer,
                F = factor.Pointer,
                Partial = partial.Pointer,
                ZStride = z.Strides[0],
                FStride = factor.Strides[0],
                Rows = rows,
                PartialStride = placed.Elements,
                RowGroups = groupsPerBlock,
                ColumnBlocks = placed.Blocks,
                Stack = placed.Stack,
            },
            new KernelWork(z.ByteLength + factor.ByteLength + partial.ByteLength, 2L * rows * placed.Elements));
        Sum(z, partial, targets ?? placed.Stack, isInput, norm);
    }

    // Adds up what row blocks left by rank, [parts, elements].
    private static void Sum(Tensor z, Tensor partial, Stack stack, bool isInput, SumParams norm = default)
    {
        (int parts, int elements) = (partial.Shape[0], partial.Shape[1]);
        s_sum.Launch(
            z.Device,
            z.DType,
            LaunchShape.Blocks(CudaLaunch.CeilDiv(elements, 256), 256),
            norm with
            {
                Partial = partial.Pointer,
                PartialStride = elements,
                Count = elements,
                Parts = parts,
                ByRank = 1,
                DownWidth = 4,
                IsInput = isInput ? 1 : 0,
                Stack = stack,
            },
            new KernelWork(partial.ByteLength + (8L * elements), (long)parts * elements));
    }

    // The linears of dA, whose sums lie by rank, one linear after the other.
    private static Stack InputStack(BorderedWeight weight, IReadOnlyList<Tensor?> dA)
    {
        Stack each = Placed(StackOf(weight, dA), GradientColumns).Stack;
        for (int i = 0; i < each.Count; i++)
        {
            each.Linears[i] = each.Linears[i] with { Begin = 0, End = weight.Inputs, Partial = (long)each.Linears[i].At * weight.Inputs };
        }

        return each;
    }

    // Gives each linear that has an adapter its blocks of columns and its place among the partial sums; the others have neither.
    private static Placement Placed(Stack stack, int blockColumns)
    {
        Stack placed = default;
        int blocks = 0;
        long elements = 0;
        for (int i = 0; i < stack.Count; i++)
        {
            Linear linear = stack.Linears[i];
            if (linear.Width > 0)
            {
                placed.Linears[placed.Count++] = linear with { Block = blocks, Partial = elements };
                blocks += (int)CudaLaunch.CeilDiv(linear.End - linear.Begin, blockColumns);
                elements += (long)(linear.End - linear.Begin) * linear.Width;
            }
        }

        return new Placement(placed, blocks, elements);
    }

    private static void GradientYByProducts(
        Tensor dy, BorderedWeight weight, Tensor s, Tensor up, Tensor ds, IReadOnlyList<Tensor?> dB)
    {
        for (int i = 0; i < weight.Slots.Count; i++)
        {
            BorderSlot slot = weight.Slots[i];
            if (slot.Width == 0)
            {
                continue;
            }

            using Tensor own = dy.Slice(1, slot.Begin, slot.Outputs);
            using Tensor block = up.Slice(0, slot.Begin, slot.Outputs);
            using Tensor columns = block.Slice(1, slot.At, slot.Width);
            using Tensor target = ds.Slice(1, slot.At, slot.Width);
            MatMul.Run(own, false, columns, false, target, slot.Scale);
            if (dB[i] is { } gradient)
            {
                using Tensor factor = s.Slice(1, slot.At, slot.Rank);
                Accumulate(own, true, factor, false, gradient);
            }
        }
    }

    // Whether the kernels can take it: narrow enough, dtype, 16-byte accesses everywhere.
    private static bool Suits(int width, int columns, ReadOnlySpan<Tensor> tensors)
    {
        bool suits = width <= MostWidth && columns % 8 == 0;
        foreach (Tensor tensor in tensors)
        {
            suits &= tensor.DType is DType.BF16 or DType.F16 && CudaLaunch.Aligned(tensor.Pointer) && (tensor.Shape[0] <= 1 || tensor.Strides[0] % 8 == 0);
        }

        return suits;
    }

    private static bool AllPlain(IReadOnlyList<Tensor?> gradients) =>
        gradients.All(static gradient => gradient is null || (gradient.DType == DType.F32 && gradient.IsContiguous));

    // Rows of a block, in groups of 64 that are so many tiles each: of up to four waves of blocks the cheapest. By estimate a
    // multiprocessor works through its tiles a quarter faster than memory brings its share of them, so that a few may be idle.
    private static int RowGroupsPerBlock(long rowGroups, int columnBlocks, int tiles)
    {
        (long best, long least) = (rowGroups, long.MaxValue);
        for (int aim = 1; aim <= 4; aim++)
        {
            long groups = CudaLaunch.CeilDiv(rowGroups, Math.Max(1, aim * GradientBlocks / columnBlocks));
            long waves = CudaLaunch.CeilDiv(CudaLaunch.CeilDiv(rowGroups, groups) * columnBlocks, GradientBlocks);
            long memory = 5 * rowGroups * columnBlocks, work = 4 * waves * groups * GradientBlocks;
            long cost = (Math.Max(memory, work) * tiles) + (5L * GradientBlocks * waves * GradientWaveTiles);
            if (cost < least)
            {
                (best, least) = (groups, cost);
            }
        }

        return (int)best;
    }

    // The width that a kernel of this many columns was compiled for.
    private static int Kernel(int[] widths, int columns) => Array.Find(widths, w => w >= columns);

    private static bool HasShared(Tensor tensor, uint bytes) => bytes <= ((CudaDevice)tensor.Device).Context.SharedBytesPerBlock;

    // As GradGroups (with dS) and GradSharedBytes in kernels-cu/lowrank/lowrank_grad.cuh.
    private static int Groups(int width) => width <= 16 ? 4 : 2;

    private static uint GradientShared(int width, bool withDown)
    {
        int factors = (int)CudaLaunch.CeilDiv(GradientStages - 1, withDown ? Groups(width) : 1) + 1;
        int elements = (GradientStages * GroupRows * GradientColumns) + (factors * GroupRows * width);
        return (uint)((2 * elements) + (withDown ? sizeof(float) * GroupRows * width : 0));
    }
}
