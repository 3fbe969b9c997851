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
    public static bool TryGradientNormed(
        in NormedInput x, BorderedWeight weight, Tensor ds, IReadOnlyList<Tensor?> dA, ScaledGradient? scaled)
    {
        if (!AllPlain(dA) || !TakesNormed(x.X, weight, ds))
        {
            return false;
        }

        using ScaledGradient? own = scaled is null ? Scale(x, weight, ds) : null;
        ScaledGradient given = scaled ?? own!;
        var norm = new SumParams
        {
            Corrections = CudaLaunch.PointerOf(given.Sums),
            CorrectionParts = given.Sums?.Shape[0] ?? 0,
            CorrectionWidth = weight.Width,
            Weight = x.Weight.Pointer,
            WeightType = KernelTypes.Code(Image, x.Weight),
            Bias = CudaLaunch.PointerOf(x.Bias),
            BiasType = x.Bias is null ? 0 : KernelTypes.Code(Image, x.Bias),
        };
        GradientOfInput(x.X, weight, given.Factor, dA, norm);
        return true;
    }

    /// <summary>F and its sums in a launch of their own; <paramref name="ds"/> suits the kernel.</summary>
    public static ScaledGradient Scale(in NormedInput x, BorderedWeight weight, Tensor ds)
    {
        Tensor z = x.X;
        (int rows, int width) = (z.Shape[0], weight.Width);
        int blockRows = (int)Math.Max(ScaleRows, CudaLaunch.CeilDiv(rows, x.Mean is null ? ScaleBlocks : ScaleBlocksWithSums));
        int blocks = (int)CudaLaunch.CeilDiv(rows, blockRows);
        ScaledGradient scaled = Unwritten(x, weight, blocks);
        s_scale.Launch(
            z.Device,
            z.DType,
            LaunchShape.Blocks(blocks, 256),
            new ScaleParams
            {
                Ds = ds.Pointer,
                F = scaled.Factor.Pointer,
                Rstd = x.Rstd.Pointer,
                Mean = CudaLaunch.PointerOf(x.Mean),
                Partial = CudaLaunch.PointerOf(scaled.Sums),
                DsStride = CudaLaunch.RowStride(ds),
                Rows = rows,
                Width = width,
                BlockRows = blockRows,
            },
            new KernelWork(2 * scaled.Factor.ByteLength, (x.Mean is null ? 1 : 4) * scaled.Factor.Elements));
        return scaled;
    }

    // Whether the pass over the norm's input can be the kernels'. f16 lacks the range for dS∘rstd, which is as large as the norm's input
    // is small.
    private static bool TakesNormed(Tensor x, BorderedWeight weight, Tensor ds) =>
        x.DType == DType.BF16 && x.Shape[0] > 0 && weight.Width > 0 && Suits(weight.Width, weight.Inputs, [x, ds]) &&
        HasShared(x, GradientShared(Kernel(s_xWidths, weight.Width), withDown: false));

    private static ScaledGradient Unwritten(in NormedInput x, BorderedWeight weight, int blocks)
    {
        Tensor z = x.X;
        Tensor factor = Tensor.Empty([z.Shape[0], weight.Width], z.DType, z.Device);
        try
        {
            return new ScaledGradient(factor, x.Mean is null ? null : Tensor.Empty([blocks, 2 * weight.Width], DType.F32, z.Device));
        }
        catch
        {
            factor.Dispose();
            throw;
        }
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
