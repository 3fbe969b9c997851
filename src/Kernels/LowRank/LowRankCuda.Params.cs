using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;

namespace Engine.Kernels;

/// <remarks>What the kernels are told, laid out as in <c>kernels-cu/lowrank</c>.</remarks>
internal static partial class LowRankCuda
{
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

    private readonly record struct Placement(Stack Stack, int Blocks, long Elements);

    [StructLayout(LayoutKind.Sequential)]
    private struct GradientParams
    {
        public nint Z;
        public nint F;
        public nint U;
        public nint Partial;
        public nint DownPartial;
        public long ZStride;
        public long FStride;
        public long UStride;
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
        public nint DownPartial;
        public nint D;
        public nint Corrections;
        public nint Weight;
        public nint Bias;
        public nint F;
        public nint Rstd;
        public nint Mean;
        public nint Sums;
        public long PartialStride;
        public long Count;
        public long Rows;
        public long DStride;
        public int Parts;
        public int ByRank;
        public int ColumnBlocks;
        public int DownWidth;
        public int DownBlocks;
        public int FWidth;
        public int IsInput;
        public int CorrectionParts;
        public int CorrectionWidth;
        public int WeightType;
        public int BiasType;
        public Stack Stack;
    }
}
