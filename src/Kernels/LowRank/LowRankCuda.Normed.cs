using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <remarks>dA of a stack behind a norm: see <c>kernels-cu/lowrank/lowrank_scale.cuh</c>.</remarks>
internal static partial class LowRankCuda
{
    // Blocks that a launch aims at, constants as GradientBlocks is. With sums every thread of lowrank_sum reads all blocks'.
    private const int ScaleBlocks = 264;
    private const int ScaleBlocksWithSums = 32;
    private const int ScaleRows = 32;

    private static readonly KernelFamily<ScaleParams> s_scale = new(Image, "lowrank_scale");

    /// <summary>The arguments have been checked. False where the kernels do not suit; nothing has happened then.</summary>
    public static bool TryGradientNormed(in NormedInput x, BorderedWeight weight, Tensor ds, IReadOnlyList<Tensor?> dA)
    {
        // f16 lacks the range for dS∘rstd, which is as large as the norm's input is small.
        Tensor z = x.X;
        bool suits = z.DType == DType.BF16 && z.Shape[0] > 0 && weight.Width > 0 && AllPlain(dA) && Suits(weight.Width, weight.Inputs, [z, ds]) &&
            HasShared(z, GradientShared(Kernel(s_xWidths, weight.Width), withDown: false));
        if (!suits)
        {
            return false;
        }

        (int rows, int width) = (z.Shape[0], weight.Width);
        int blockRows = (int)Math.Max(ScaleRows, CudaLaunch.CeilDiv(rows, x.Mean is null ? ScaleBlocks : ScaleBlocksWithSums));
        int blocks = (int)CudaLaunch.CeilDiv(rows, blockRows);
        using Tensor factor = Tensor.Empty([rows, width], z.DType, z.Device);
        using Tensor? sums = x.Mean is null ? null : Tensor.Empty([blocks, 2 * width], DType.F32, z.Device);
        s_scale.Launch(
            z.Device,
            z.DType,
            LaunchShape.Blocks(blocks, 256),
            new ScaleParams
            {
                Ds = ds.Pointer,
                F = factor.Pointer,
                Rstd = x.Rstd.Pointer,
                Mean = CudaLaunch.PointerOf(x.Mean),
                Partial = CudaLaunch.PointerOf(sums),
                DsStride = CudaLaunch.RowStride(ds),
                Rows = rows,
                Width = width,
                BlockRows = blockRows,
            },
            new KernelWork(2 * factor.ByteLength, (x.Mean is null ? 1 : 4) * factor.Elements));
        var norm = new SumParams
        {
            Corrections = CudaLaunch.PointerOf(sums),
            CorrectionParts = blocks,
            CorrectionWidth = width,
            Weight = x.Weight.Pointer,
            WeightType = KernelTypes.Code(Image, x.Weight),
            Bias = CudaLaunch.PointerOf(x.Bias),
            BiasType = x.Bias is null ? 0 : KernelTypes.Code(Image, x.Bias),
        };
        GradientOfInput(z, weight, factor, dA, norm);
        return true;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ScaleParams
    {
        public nint Ds;
        public nint F;
        public nint Rstd;
        public nint Mean;
        public nint Partial;
        public long DsStride;
        public long Rows;
        public int Width;
        public int BlockRows;
    }
}
