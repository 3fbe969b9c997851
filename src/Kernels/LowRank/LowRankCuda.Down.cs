using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <remarks>S by a kernel of our own or by the library: see <c>kernels-cu/lowrank/lowrank_down.cuh</c>.</remarks>
internal static partial class LowRankCuda
{
    // Up to these the kernel takes less than the library's product and a copy of S: 9.8 instead of 9.1 + 5.9 µs at K 1024, rank 16,
    // 28 instead of 25.7 + 5.9 at K 4096 (8192 rows, H100, 2026-11-27). Beyond them it gains little, 52 against 52.9 at K 8192 and
    // 19.5 against 20.9 at rank 48 and K 2048, and loses more where there is no copy.
    private const int MostDownColumns = 4096;
    private const int MostDownWidth = 32;

    // So few rows are one block of our kernel, which would go through the whole K alone.
    private const int FewestDownRows = 17;

    // Two blocks a multiprocessor of today's GPUs: with no more of 16 rows, all of them run at once.
    private const int DownBlocks = 264;

    private const int DownTile = 8;

    private static readonly KernelFamily<DownParams>[] s_down16 = DownKernels<DownParams>("lowrank_down", 16);
    private static readonly KernelFamily<DownParams>[] s_down32 = DownKernels<DownParams>("lowrank_down", 32);

    /// <summary>The arguments have been checked. One product, if it is one, where all linears have one scale.</summary>
    public static void Down(Tensor x, BorderedWeight weight, Tensor s, int? linear, Tensor? copy)
    {
        // A stack's only linear has the bits of the whole.
        if ((linear is null || weight.Slots.Count == 1) && TryDown(x, weight, s, copy))
        {
            return;
        }

        DownByProducts(x, weight, s, linear);
        if (copy is not null)
        {
            Copy.Run(s, copy);
        }
    }

    // False where the kernel does not suit, or the library is faster; nothing has happened then. Whether there is a copy must not
    // matter: a checkpointed block's run without one has to have the bits of the run with one.
    private static bool TryDown(Tensor x, BorderedWeight weight, Tensor s, Tensor? copy)
    {
        (int rows, int width) = (x.Shape[0], weight.Width);

        // Linears of several scales would be a product each.
        if (rows < FewestDownRows || width is 0 or > MostDownWidth || (weight.Inputs > MostDownColumns && weight.CommonScale is not null))
        {
            return false;
        }

        using Tensor down = weight.Down();
        Tensor[] operands = [x, down, s];
        if (!Suits(width, weight.Inputs, operands) || !Array.TrueForAll(operands, static operand => HasIntRows(operand, 64)))
        {
            return false;
        }

        (KernelFamily<DownParams> kernel, int blockRows) = DownKernel(s_down16, s_down32, rows, width);
        kernel.Launch(
            x.Device,
            x.DType,
            LaunchShape.Blocks(CudaLaunch.CeilDiv(rows, blockRows), 256),
            new DownParams
            {
                X = x.Pointer,
                A = down.Pointer,
                XStride = RowBytes(x),
                AStride = RowBytes(down),
                Columns = weight.Inputs,
                To = Target(weight, s, copy),
            },
            new KernelWork(x.ByteLength + down.ByteLength + s.ByteLength + (copy?.ByteLength ?? 0), x.Elements * 2L * width));
        CopyUnaligned(s, copy);
        return true;
    }

    private static void DownByProducts(Tensor x, BorderedWeight weight, Tensor s, int? linear)
    {
        using Tensor down = weight.Down();
        IReadOnlyList<BorderSlot> slots = weight.Slots;
        if (linear is null && weight.CommonScale is { } scale)
        {
            MatMul.Run(x, false, down, true, s, scale);
            return;
        }

        for (int i = linear ?? 0; i <= (linear ?? slots.Count - 1); i++)
        {
            using Tensor own = down.Slice(0, slots[i].At, slots[i].Width);
            using Tensor result = s.Slice(1, slots[i].At, slots[i].Width);
            MatMul.Run(x, false, own, true, result, slots[i].Scale);
        }
    }

    // Either gives the same bits.
    private static (KernelFamily<T> Kernel, int Rows) DownKernel<T>(KernelFamily<T>[] by16, KernelFamily<T>[] by32, int rows, int width)
        where T : unmanaged
    {
        int index = width <= 8 ? 0 : width <= 16 ? 1 : 2;
        return CudaLaunch.CeilDiv(rows, 16) <= DownBlocks ? (by16[index], 16) : (by32[index], 32);
    }

    // A kernel for each width, no field of its own: fields of several files are initialized in no order.
    private static KernelFamily<T>[] DownKernels<T>(string name, int rows)
        where T : unmanaged =>
        [.. new[] { 8, 16, MostDownWidth }.Select(w => new KernelFamily<T>(Image, $"{name}_m{rows}_r{w}"))];

    // S and its copy of linears that may have a scale each.
    private static DownTarget Target(BorderedWeight weight, Tensor s, Tensor? copy)
    {
        DownTarget target = default;
        (target.S, target.Copy, target.SStride) = (s.Pointer, IsAligned(copy) ? CudaLaunch.PointerOf(copy) : 0, RowBytes(s));
        (target.Rows, target.Width) = (s.Shape[0], weight.Width);
        foreach (BorderSlot slot in weight.Slots)
        {
            for (int at = slot.At; at < slot.At + slot.Width; at += DownTile)
            {
                target.Scales[at / DownTile] = slot.Scale;
            }
        }

        return target;
    }

    // A copy that the kernels, which write pairs, leave out.
    private static void CopyUnaligned(Tensor s, Tensor? copy)
    {
        if (copy is not null && !IsAligned(copy))
        {
            Copy.Run(s, copy);
        }
    }

    private static bool IsAligned(Tensor? copy) => copy is not null && CudaLaunch.Aligned(copy.Pointer);

    [InlineArray(MostDownWidth / DownTile)]
    private struct DownScales
    {
        private float _first;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct DownTarget
    {
        public nint S;
        public nint Copy;
        public int SStride;
        public int Rows;
        public int Width;
        public DownScales Scales;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct DownParams
    {
        public nint X;
        public nint A;
        public int XStride;
        public int AStride;
        public int Columns;
        public DownTarget To;
    }
}
