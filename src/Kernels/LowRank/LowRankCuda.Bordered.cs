using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <remarks>
/// Borders of bf16 and f16 up to 64 columns go to our kernels, which read each large operand once. Wider ones, f32, and what is
/// not aligned to 16 bytes are products of the library.
/// </remarks>
internal static partial class LowRankCuda
{
    private const string Image = "lowrank";
    private const int MostWidth = 64;
    private const int GroupRows = 64;
    private const int ChunkColumns = 64;
    private const int GradientColumns = 128;
    private const int MostLinears = 4;

    // Blocks that a launch aims at: one or two a multiprocessor of today's GPUs. Constants, so that a sum has the same bits on every GPU.
    private const int DownBlocks = 132;
    private const int GradientBlocks = 264;
    private const int CounterBytes = 1 << 20;

    private static readonly int[] s_downWidths = [8, 16, 32, 48, 64];
    private static readonly int[] s_yWidths = [8, 16, 32, 64];
    private static readonly int[] s_xWidths = [8, 16, 32, 48, 64];
    private static readonly KernelFamily<DownParams>[] s_down = [.. s_downWidths.Select(w => new KernelFamily<DownParams>(Image, $"lowrank_down_r{w}"))];
    private static readonly KernelFamily<GradientParams>[] s_gradY = [.. s_yWidths.Select(w => new KernelFamily<GradientParams>(Image, $"lowrank_grad_y_r{w}"))];
    private static readonly KernelFamily<GradientParams>[] s_gradX = [.. s_xWidths.Select(w => new KernelFamily<GradientParams>(Image, $"lowrank_grad_x_r{w}"))];
    private static readonly KernelFamily<SumParams> s_sum = new(Image, "lowrank_sum");
    private static readonly ConcurrentDictionary<CudaDevice, nint> s_counters = new();

    /// <summary>The arguments have been checked.</summary>
    public static void Down(Tensor x, BorderedWeight weight, Tensor s, int? linear)
    {
        using Tensor down = weight.Down();
        if (linear is { } one)
        {
            BorderSlot slot = weight.Slots[one];
            using Tensor own = down.Slice(0, slot.At, slot.Width);
            using Tensor result = s.Slice(1, slot.At, slot.Width);
            Stack single = default;
            single.Count = 1;
            single.Linears[0] = new Linear { Width = slot.Width, Rank = slot.Rank, Scale = slot.Scale };
            Down(x, own, result, single);
        }
        else
        {
            Down(x, down, s, StackOf(weight, null));
        }
    }

    private static void Down(Tensor x, Tensor down, Tensor s, Stack stack)
    {
        (int rows, int inputs, int columns) = (x.Shape[0], x.Shape[1], down.Shape[0]);
        if (rows == 0 || columns == 0)
        {
            return;
        }

        long rowBlocks = CudaLaunch.CeilDiv(rows, GroupRows);
        if (!Suits(columns, rowBlocks, inputs, [x, down, s]))
        {
            for (int i = 0; i < stack.Count; i++)
            {
                Linear linear = stack.Linears[i];
                using Tensor own = down.Slice(0, linear.At, linear.Width);
                using Tensor result = s.Slice(1, linear.At, linear.Width);
                MatMul.Run(x, false, own, true, result, linear.Scale);
            }

            return;
        }

        int index = Array.FindIndex(s_downWidths, w => w >= columns);
        int width = s_downWidths[index];
        int chunks = (int)CudaLaunch.CeilDiv(inputs, ChunkColumns);
        int splits = rowBlocks >= DownBlocks * 3 / 4 ? 1 : (int)Math.Min(chunks, CudaLaunch.CeilDiv(2 * DownBlocks, rowBlocks));
        int splitChunks = (int)CudaLaunch.CeilDiv(chunks, splits);
        splits = (int)CudaLaunch.CeilDiv(chunks, splitChunks);
        using Tensor? partial = splits == 1 ? null : Tensor.Empty([checked((int)(rowBlocks * splits)), GroupRows * width], DType.F32, x.Device);
        s_down[index].Launch(
            x.Device,
            x.DType,
            LaunchShape.Blocks(rowBlocks * splits, 128, (uint)(6 * (GroupRows + width) * ChunkColumns * 2)),
            new DownParams
            {
                X = x.Pointer,
                A = down.Pointer,
                S = s.Pointer,
                Partial = CudaLaunch.PointerOf(partial),
                Counters = Counters(x.Device),
                XStride = x.Strides[0],
                AStride = down.Strides[0],
                SStride = s.Strides[0],
                Rows = rows,
                Inputs = inputs,
                Width = columns,
                Splits = splits,
                SplitChunks = splitChunks,
                Stack = stack,
            },
            new KernelWork(x.ByteLength + down.ByteLength + s.ByteLength, 2L * rows * inputs * columns));
    }

    /// <summary>The arguments have been checked.</summary>
    public static void GradientY(Tensor dy, BorderedWeight weight, Tensor s, Tensor ds, IReadOnlyList<Tensor?> dB)
    {
        int rows = dy.Shape[0];
        if (rows == 0 || weight.Width == 0)
        {
            return;
        }

        using Tensor up = weight.Up();
        long rowGroups = CudaLaunch.CeilDiv(rows, GroupRows);
        int most = weight.Slots.Max(static slot => slot.Width);
        bool suits = Suits(most, rowGroups, weight.Outputs, [dy, s, up, ds]) && AllPlain(dB) && weight.Slots.All(static slot => slot.Outputs % 8 == 0);
        if (!suits)
        {
            GradientYByProducts(dy, weight, s, up, ds, dB);
            return;
        }

        int index = Array.FindIndex(s_yWidths, w => w >= most);
        int width = s_yWidths[index];
        Stack stack = StackOf(weight, dB);
        int blockColumns = GradientColumns * Groups(width);
        int columnBlocks = 0;
        long partialElements = 0;
        int used = 0;
        for (int i = 0; i < weight.Slots.Count; i++)
        {
            BorderSlot slot = weight.Slots[i];
            if (slot.Width > 0)
            {
                // Linears without an adapter take no block.
                stack.Linears[used] = stack.Linears[i] with { Block = columnBlocks, Partial = partialElements };
                used++;
                columnBlocks += (int)CudaLaunch.CeilDiv(slot.Outputs, blockColumns);
                partialElements += (long)slot.Outputs * slot.Width;
            }
        }

        stack.Count = used;
        int groupsPerBlock = RowGroupsPerBlock(rowGroups, columnBlocks, width == MostWidth ? GradientBlocks / 2 : GradientBlocks);
        int rowBlocks = (int)CudaLaunch.CeilDiv(rowGroups, groupsPerBlock);
        using Tensor partial = Tensor.Empty([rowBlocks, checked((int)partialElements)], DType.F32, dy.Device);
        using Tensor downPartial = Tensor.Empty([checked((int)rowGroups), columnBlocks * GroupRows * width], DType.F32, dy.Device);
        s_gradY[index].Launch(
            dy.Device,
            dy.DType,
            LaunchShape.Blocks((long)rowBlocks * columnBlocks, 256, GradientShared(width, withDown: true)),
            new GradientParams
            {
                Z = dy.Pointer,
                F = s.Pointer,
                U = up.Pointer,
                D = ds.Pointer,
                Partial = partial.Pointer,
                DownPartial = downPartial.Pointer,
                Counters = Counters(dy.Device),
                ZStride = dy.Strides[0],
                FStride = s.Strides[0],
                UStride = up.Strides[0],
                DStride = ds.Strides[0],
                Rows = rows,
                PartialStride = partialElements,
                RowGroups = groupsPerBlock,
                ColumnBlocks = columnBlocks,
                Stack = stack,
            },
            new KernelWork(dy.ByteLength + s.ByteLength + up.ByteLength + ds.ByteLength, 4L * rows * weight.Outputs * most));
        if (dB.Any(static gradient => gradient is not null))
        {
            Sum(partial, partialElements, rowBlocks, 0, stack);
        }
    }

    /// <summary>The arguments have been checked.</summary>
    public static void GradientX(Tensor x, BorderedWeight weight, Tensor ds, IReadOnlyList<Tensor?> dA)
    {
        int rows = x.Shape[0];
        if (rows == 0 || weight.Width == 0 || dA.All(static gradient => gradient is null))
        {
            return;
        }

        long rowGroups = CudaLaunch.CeilDiv(rows, GroupRows);
        if (!Suits(weight.Width, rowGroups, weight.Inputs, [x, ds]) || !AllPlain(dA))
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

        int index = Array.FindIndex(s_xWidths, w => w >= weight.Width);
        int width = s_xWidths[index];
        int columnBlocks = (int)CudaLaunch.CeilDiv(weight.Inputs, GradientColumns * Groups(width));
        int groupsPerBlock = RowGroupsPerBlock(rowGroups, columnBlocks, GradientBlocks);
        int rowBlocks = (int)CudaLaunch.CeilDiv(rowGroups, groupsPerBlock);
        int elements = weight.Width * weight.Inputs;
        using Tensor partial = Tensor.Empty([rowBlocks, elements], DType.F32, x.Device);

        // One pass over X for all linears, whose columns of dS are neighbours: as one linear of the whole width.
        Stack whole = default;
        whole.Count = 1;
        whole.Linears[0] = new Linear { End = weight.Inputs, Width = weight.Width, Rank = weight.Width, Gradient = partial.Pointer };
        s_gradX[index].Launch(
            x.Device,
            x.DType,
            LaunchShape.Blocks((long)rowBlocks * columnBlocks, 256, GradientShared(width, withDown: false)),
            new GradientParams
            {
                Z = x.Pointer,
                F = ds.Pointer,
                Partial = partial.Pointer,
                ZStride = x.Strides[0],
                FStride = ds.Strides[0],
                Rows = rows,
                PartialStride = elements,
                RowGroups = groupsPerBlock,
                ColumnBlocks = columnBlocks,
                Stack = whole,
            },
            new KernelWork(x.ByteLength + ds.ByteLength, 2L * rows * elements));
        Sum(partial, elements, rowBlocks, weight.Inputs, StackOf(weight, dA));
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

    private static void Sum(Tensor partial, long elements, int parts, int inputs, Stack stack) => s_sum.Launch(
        partial.Device,
        LaunchShape.Blocks(CudaLaunch.CeilDiv(elements, 256), 256),
        new SumParams { Partial = partial.Pointer, PartialStride = elements, Count = elements, Parts = parts, Inputs = inputs, Stack = stack },
        new KernelWork(partial.ByteLength + (8 * elements), parts * elements));

    // Whether the kernels can take it: narrow enough, dtype, 16-byte accesses everywhere.
    private static bool Suits(int width, long rowGroups, int columns, ReadOnlySpan<Tensor> tensors)
    {
        bool suits = width <= MostWidth && columns % 8 == 0 && rowGroups * MostLinears * sizeof(int) <= CounterBytes;
        foreach (Tensor tensor in tensors)
        {
            suits &= tensor.DType is DType.BF16 or DType.F16 && CudaLaunch.Aligned(tensor.Pointer) && (tensor.Shape[0] <= 1 || tensor.Strides[0] % 8 == 0);
        }

        return suits;
    }

    private static bool AllPlain(IReadOnlyList<Tensor?> gradients) =>
        gradients.All(static gradient => gradient is null || (gradient.DType == DType.F32 && gradient.IsContiguous));

    // Rows of a block, in groups of 64, so that about as many blocks as wanted share the work.
    private static int RowGroupsPerBlock(long rowGroups, int columnBlocks, int blocks) =>
        (int)CudaLaunch.CeilDiv(rowGroups, Math.Max(1, blocks / columnBlocks));

    // As GradGroups and GradSharedBytes in kernels-cu/lowrank/lowrank_grad.cuh.
    private static int Groups(int width) => width <= 16 ? 4 : width == 32 ? 2 : 1;

    private static uint GradientShared(int width, bool withDown)
    {
        int elements = (4 * GroupRows * GradientColumns) + (5 * GroupRows * width) + (withDown ? Groups(width) * GradientColumns * width : 0);
        return (uint)((2 * elements) + (withDown ? sizeof(float) * GroupRows * width : 0));
    }

    // Zeros that blocks count their arrivals in and leave as zeros.
    private static nint Counters(Device device) => s_counters.GetOrAdd((CudaDevice)device, static d =>
    {
        nint counters = d.Reserve(CounterBytes);
        d.Clear(counters, CounterBytes);
        return counters;
    });

    private static Stack StackOf(BorderedWeight weight, IReadOnlyList<Tensor?>? gradients)
    {
        Stack stack = default;
        stack.Count = weight.Slots.Count;
        for (int i = 0; i < stack.Count; i++)
        {
            BorderSlot slot = weight.Slots[i];
            stack.Linears[i] = new Linear
            {
                Begin = slot.Begin,
                End = slot.Begin + slot.Outputs,
                At = slot.At,
                Width = slot.Width,
                Rank = slot.Rank,
                Scale = slot.Scale,
                Gradient = gradients is null ? 0 : CudaLaunch.PointerOf(gradients[i]),
            };
        }

        return stack;
    }

    [StructLayout(LayoutKind.Sequential)]
    private record struct Linear
    {
        public int Begin;
        public int End;
        public int At;
        public int Width;
        public int Rank;
        public float Scale;
        public nint Gradient;
        public int Block;
        public long Partial;
    }

    [InlineArray(MostLinears)]
    private struct Linears
    {
        private Linear _first;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Stack
    {
        public Linears Linears;
        public int Count;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct DownParams
    {
        public nint X;
        public nint A;
        public nint S;
        public nint Partial;
        public nint Counters;
        public long XStride;
        public long AStride;
        public long SStride;
        public long Rows;
        public int Inputs;
        public int Width;
        public int Splits;
        public int SplitChunks;
        public Stack Stack;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct GradientParams
    {
        public nint Z;
        public nint F;
        public nint U;
        public nint D;
        public nint Partial;
        public nint DownPartial;
        public nint Counters;
        public long ZStride;
        public long FStride;
        public long UStride;
        public long DStride;
        public long Rows;
        public long PartialStride;
        public int RowGroups;
        public int ColumnBlocks;
        public Stack Stack;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SumParams
    {
        public nint Partial;
        public long PartialStride;
        public long Count;
        public int Parts;
        public int Inputs;
        public Stack Stack;
    }
}
