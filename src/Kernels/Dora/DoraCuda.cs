using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>DoRA's norms on CUDA: sums of squares for each output within each tile, then over the tiles.</summary>
internal static class DoraCuda
{
    private const int ScaleColumns = 4096;

    private static readonly KernelFamily<DeltaFactors.PackParams> s_pack = new("dora", "dora_pack");
    private static readonly KernelFamily<NormParams> s_rows = new("dora", "dora_norm_rows");
    private static readonly KernelFamily<NormParams> s_columns = new("dora", "dora_norm_columns");
    private static readonly KernelFamily<SumParams> s_sum = new("dora", "dora_norm_sum");
    private static readonly KernelFamily<RatioParams> s_ratio = new("dora", "dora_ratio");
    private static readonly KernelFamily<ScaleParams> s_scale = new("dora", "dora_scale");

    public static void WeightNorm(Tensor w, Tensor a, Tensor b, float scale, bool transposed, Tensor norm)
    {
        Device device = w.Device;
        (int rows, int columns) = (w.Shape[0], w.Shape[1]);
        int outputs = norm.Shape[0];
        int across = (int)CudaLaunch.CeilDiv(columns, DeltaFactors.TileColumns(w.DType));
        int down = (int)CudaLaunch.CeilDiv(rows, DeltaFactors.TileRows);
        int parts = transposed ? down : across;
        int rank = a.Shape[0];
        var matrix = new MergeMatrix(RowMatrix.Of("Dora.WeightNorm", w, w), [new MergeTerm(a, b, scale)], transposed);
        long factorBytes = DeltaFactors.Bytes(DeltaFactors.Slices(rank), matrix.Outputs, matrix.Inputs);
        using Tensor factors = Tensor.Empty([checked((int)factorBytes)], DType.U8, device);
        DeltaFactors.PackParams pack = DeltaFactors.PackOf(matrix, 0, factors.Pointer);
        s_pack.Launch(
            device,
            LaunchShape.Blocks(pack.Blocks, DeltaFactors.Threads),
            pack,
            new KernelWork(a.ByteLength + b.ByteLength + factors.ByteLength));
        using Tensor partial = Tensor.Empty([parts, outputs], DType.F32, device);
        (transposed ? s_columns : s_rows).Launch(
            device,
            w.DType,
            LaunchShape.Blocks((long)across * down, DeltaFactors.Threads, DeltaFactors.SharedBytes),
            new NormParams
            {
                W = w.Pointer,
                Factors = DeltaFactors.OperandOf(matrix, factors.Pointer),
                Partial = partial.Pointer,
                Stride = w.Strides[0],
                Rows = rows,
                Columns = columns,
                TilesAcross = across,
                Vectors = CudaLaunch.AlignedRows(w, w.Strides[0]) ? 1 : 0,
            },
            new KernelWork(
                w.ByteLength + factors.ByteLength + partial.ByteLength,
                ((2L * rank) + 3) * w.Elements));
        s_sum.Launch(
            device,
            LaunchShape.Blocks(CudaLaunch.CeilDiv(outputs, 128), 128),
            new SumParams { Partial = partial.Pointer, Norm = norm.Pointer, Parts = parts, Outputs = outputs },
            new KernelWork(partial.ByteLength + norm.ByteLength, partial.Elements));
    }

    public static void Ratio(Tensor magnitude, Tensor norm, Tensor y) => s_ratio.Launch(
        y.Device,
        y.DType,
        LaunchShape.Blocks(CudaLaunch.CeilDiv(y.Elements, 256), 256),
        new RatioParams { Magnitude = magnitude.Pointer, Norm = norm.Pointer, Y = y.Pointer, Elements = y.Elements },
        new KernelWork(3 * y.ByteLength, y.Elements));

    public static void ScaleOutputs(Tensor w, Tensor ratio, bool transposed)
    {
        int columns = w.Shape[1];
        int across = (int)CudaLaunch.CeilDiv(columns, ScaleColumns);
        s_scale.Launch(
            w.Device,
            w.DType,
            LaunchShape.Blocks((long)w.Shape[0] * across, 256),
            new ScaleParams
            {
                W = w.Pointer,
                Ratio = ratio.Pointer,
                Columns = columns,
                BlocksAcross = across,
                Transposed = transposed ? 1 : 0,
                Vectors = CudaLaunch.AlignedRows(w, columns) && (!transposed || CudaLaunch.Aligned(ratio.Pointer)) ? 1 : 0,
            },
            new KernelWork((2 * w.ByteLength) + ratio.ByteLength, w.Elements));
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct NormParams
    {
        public nint W;
        public DeltaFactors.Operand Factors;
        public nint Partial;
        public long Stride;
        public int Rows;
        public int Columns;
        public int TilesAcross;
        public int Vectors;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SumParams
    {
        public nint Partial;
        public nint Norm;
        public int Parts;
        public int Outputs;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct RatioParams
    {
        public nint Magnitude;
        public nint Norm;
        public nint Y;
        public long Elements;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ScaleParams
    {
        public nint W;
        public nint Ratio;
        public int Columns;
        public int BlocksAcross;
        public int Transposed;
        public int Vectors;
    }
}
