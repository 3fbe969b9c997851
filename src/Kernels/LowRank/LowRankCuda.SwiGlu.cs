using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <remarks>
/// SwiGLU with S, and its backward with dA, of the linear that reads its result: see <c>lowrank_swiglu_down.cuh</c> and
/// <c>lowrank_swiglu.cuh</c> in <c>kernels-cu/lowrank</c>.
/// </remarks>
internal static partial class LowRankCuda
{
    private const int SwiGluRows = 32;

    // Three blocks a multiprocessor of today's GPUs, a constant as GradientBlocks is.
    private const int SwiGluBlocks = 396;

    private static readonly KernelFamily<SwiGluParams>[] s_swiGlu = [.. s_xWidths.Select(w => new KernelFamily<SwiGluParams>(Image, $"lowrank_swiglu_bwd_r{w}"))];

    private static readonly KernelFamily<SwiGluDownParams>[] s_swiGluDown16 = DownKernels<SwiGluDownParams>("lowrank_swiglu_down", 16);
    private static readonly KernelFamily<SwiGluDownParams>[] s_swiGluDown32 = DownKernels<SwiGluDownParams>("lowrank_swiglu_down", 32);

    /// <summary>The arguments have been checked. False where the kernel does not suit; nothing has happened then.</summary>
    public static bool TrySwiGluDown(Tensor gate, Tensor up, BorderedWeight weight, Tensor y, Tensor s, Tensor? copy)
    {
        (int rows, int width) = (gate.Shape[0], weight.Width);
        if (rows == 0 || width == 0 || width > MostDownWidth)
        {
            return false;
        }

        using Tensor down = weight.Down();
        Tensor[] operands = [gate, up, down, y, s];
        if (!Suits(width, weight.Inputs, operands) || !Array.TrueForAll(operands, HasIntRows))
        {
            return false;
        }

        (KernelFamily<SwiGluDownParams> kernel, int blockRows) = DownKernel(s_swiGluDown16, s_swiGluDown32, rows, width);
        kernel.Launch(
            gate.Device,
            gate.DType,
            LaunchShape.Blocks(CudaLaunch.CeilDiv(rows, blockRows), 256),
            new SwiGluDownParams
            {
                Gate = gate.Pointer,
                Up = up.Pointer,
                A = down.Pointer,
                Y = y.Pointer,
                GateStride = RowBytes(gate),
                UpStride = RowBytes(up),
                AStride = RowBytes(down),
                YStride = RowBytes(y),
                Columns = weight.Inputs,
                To = Target(weight, s, copy),
            },
            new KernelWork(
                (3 * gate.ByteLength) + down.ByteLength + s.ByteLength + (copy?.ByteLength ?? 0), gate.Elements * ((2L * width) + 6)));
        CopyUnaligned(s, copy);
        return true;
    }

    /// <summary>The arguments have been checked. False where the kernel does not suit; nothing has happened then.</summary>
    public static bool TrySwiGluBackward(
        Tensor dInner, Tensor gate, Tensor up, BorderedWeight weight, Tensor ds, IReadOnlyList<Tensor?> dA, Tensor dGate, Tensor dUp)
    {
        (int rows, int columns) = (gate.Shape[0], weight.Inputs);
        Tensor[] operands = [dInner, gate, up, ds, dGate, dUp];
        bool suits = rows > 0 && weight.Width > 0 && dA.Any(static gradient => gradient is not null) && AllPlain(dA) &&
            Suits(weight.Width, columns, operands) && Array.TrueForAll(operands, HasIntRows);
        if (!suits)
        {
            return false;
        }

        int index = Array.IndexOf(s_xWidths, Kernel(s_xWidths, weight.Width));
        int columnBlocks = (int)CudaLaunch.CeilDiv(columns, GradientColumns);
        long rowGroups = CudaLaunch.CeilDiv(rows, SwiGluRows);
        int groupsPerBlock = (int)CudaLaunch.CeilDiv(rowGroups, Math.Max(1, SwiGluBlocks / columnBlocks));
        int rowBlocks = (int)CudaLaunch.CeilDiv(rowGroups, groupsPerBlock);
        using Tensor partial = Tensor.Empty([rowBlocks, checked(weight.Width * columns)], DType.F32, gate.Device);
        s_swiGlu[index].Launch(
            gate.Device,
            gate.DType,
            LaunchShape.Blocks((long)rowBlocks * columnBlocks, 256, SwiGluShared(s_xWidths[index])),
            new SwiGluParams
            {
                Dy = dInner.Pointer,
                Gate = gate.Pointer,
                Up = up.Pointer,
                DGate = dGate.Pointer,
                DUp = dUp.Pointer,
                F = ds.Pointer,
                Partial = partial.Pointer,
                DyStride = RowBytes(dInner),
                GateStride = RowBytes(gate),
                UpStride = RowBytes(up),
                DGateStride = RowBytes(dGate),
                DUpStride = RowBytes(dUp),
                FStride = RowBytes(ds),
                Rows = rows,
                Columns = columns,
                Width = weight.Width,
                RowGroups = groupsPerBlock,
                ColumnBlocks = columnBlocks,
            },
            new KernelWork((5 * gate.ByteLength) + ds.ByteLength + partial.ByteLength, gate.Elements * ((2L * weight.Width) + 20)));
        Sum(gate, partial, InputStack(weight, dA), isInput: true);
        return true;
    }

    // Whether the bytes from row to row are an int.
    private static bool HasIntRows(Tensor tensor) => HasIntRows(tensor, 1);

    // The same of those across several rows.
    private static bool HasIntRows(Tensor tensor, int rows) => CudaLaunch.RowStride(tensor) <= int.MaxValue / tensor.DType.Size() / rows;

    private static int RowBytes(Tensor tensor) => (int)(CudaLaunch.RowStride(tensor) * tensor.DType.Size());

    // As SwiGluSharedBytes in kernels-cu/lowrank/lowrank_swiglu.cuh.
    private static uint SwiGluShared(int width) => (uint)(2 * SwiGluRows * ((2 * GradientColumns) + (3 * width)));

    [StructLayout(LayoutKind.Sequential)]
    private struct SwiGluParams
    {
        public nint Dy;
        public nint Gate;
        public nint Up;
        public nint DGate;
        public nint DUp;
        public nint F;
        public nint Partial;
        public int DyStride;
        public int GateStride;
        public int UpStride;
        public int DGateStride;
        public int DUpStride;
        public int FStride;
        public int Rows;
        public int Columns;
        public int Width;
        public int RowGroups;
        public int ColumnBlocks;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SwiGluDownParams
    {
        public nint Gate;
        public nint Up;
        public nint A;
        public nint Y;
        public int GateStride;
        public int UpStride;
        public int AStride;
        public int YStride;
        public int Columns;
        public DownTarget To;
    }
}
