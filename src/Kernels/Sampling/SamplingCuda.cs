using System.Numerics;
using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>Sampling on CUDA: one block a row; nothing is copied or waited for.</summary>
internal static class SamplingCuda
{
    private const uint Threads = 1024;

    // Weights are counted in units of 2⁻⁴⁵ of the best token's, or larger ones where the sum would not fit 63 bits.
    private const int MostBits = 45;

    private static readonly KernelFamily<Params> s_select = new("sampling", "sampling_select");

    /// <summary>The arguments have been checked.</summary>
    public static void SelectRows(
        Tensor logits, Tensor ids, in SamplingOptions options, Tensor? seen, Tensor? seenCounts, Tensor? draws)
    {
        int columns = logits.Shape[1];
        bool greedy = options.Temperature == 0;
        bool penalty = seen is not null && options.RepetitionPenalty != 1;
        bool filters = !greedy && (options.TopP < 1 || (options.TopK > 0 && options.TopK < columns));
        Device device = logits.Device;
        using Tensor? keys = greedy && !penalty ? null : Tensor.Empty(logits.Shape, DType.I32, device);
        using Tensor? list = filters ? Tensor.Empty(logits.Shape, DType.I32, device) : null;
        int shift = Math.Min(MostBits, 62 - BitOperations.Log2((uint)columns) - 1);
        s_select.Launch(
            device,
            logits.DType,
            LaunchShape.Blocks(logits.Shape[0], Threads),
            new Params
            {
                Logits = logits.Pointer,
                Ids = ids.Pointer,
                Seen = penalty ? seen!.Pointer : 0,
                SeenCounts = penalty ? seenCounts!.Pointer : 0,
                Draws = greedy ? 0 : draws!.Pointer,
                Keys = CudaLaunch.PointerOf(keys),
                List = CudaLaunch.PointerOf(list),
                Columns = columns,
                SeenStride = penalty ? seen!.Shape[1] : 0,
                Temperature = (float)options.Temperature,
                Penalty = (float)options.RepetitionPenalty,
                TopK = options.TopK,
                Removable = options.TopP < 1 ? (float)(1.0 - options.TopP) : -1,
                Unit = MathF.ScaleB(1, shift),
                Vectors = CudaLaunch.AlignedRows(logits, columns) ? 1 : 0,
            },
            new KernelWork(logits.ByteLength + (keys?.ByteLength ?? 0), logits.Elements));
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint Logits;
        public nint Ids;
        public nint Seen;
        public nint SeenCounts;
        public nint Draws;
        public nint Keys;
        public nint List;
        public int Columns;
        public int SeenStride;
        public float Temperature;
        public float Penalty;
        public int TopK;
        public float Removable;
        public float Unit;
        public int Vectors;
    }
}
