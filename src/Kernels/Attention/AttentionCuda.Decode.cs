using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <content>The forward for a few queries: the keys are split over blocks, and a second kernel joins the parts.</content>
internal static partial class AttentionCuda
{
    /// <summary>Up to here the forward is a matter of reading keys and values once.</summary>
    private const int MostDecodeQueries = 8;

    // As in attention_decode.cuh.
    private const int DecodeRows = 8;
    private const uint DecodeThreads = 128;
    private const uint CombineThreads = 256;
    private const int MostSplits = 256;

    // Enough blocks to keep a large device busy when all keys are held; a constant, so that no result depends on the device.
    private const int WantedBlocks = 512;

    // Fewer keys a block would not pay for the second kernel.
    private const int LeastSplitKeys = 64;

    private static readonly int[] s_decodeDimensions = [32, 64, 128, 256];
    private static readonly KernelFamily<DecodeParams>[] s_decode =
        [.. s_decodeDimensions.Select(d => new KernelFamily<DecodeParams>(Image, "attention_decode_d" + d))];

    private static readonly KernelFamily<DecodeParams> s_combine = new(Image, "attention_combine");

    /// <summary>
    /// The queries stand at the last keys held: <paramref name="length"/> of them (on the device) or, without it,
    /// <paramref name="queryOffset"/> plus the queries. The arguments have been checked.
    /// </summary>
    public static void Decode(
        Tensor q, Tensor k, Tensor v, Tensor keyStart, Tensor? length, int queryOffset, float scale, Tensor o, Tensor? lse)
    {
        if (q.Elements == 0)
        {
            return;
        }

        (int batch, int queries, int heads, int dimension) = (q.Shape[0], q.Shape[1], q.Shape[2], q.Shape[3]);
        int index = Array.FindIndex(s_decodeDimensions, d => d >= dimension);
        if (index < 0)
        {
            throw TooLarge(q);
        }

        (int keys, int keyHeads) = (k.Shape[1], k.Shape[2]);
        long groups = batch * keyHeads * CudaLaunch.CeilDiv((long)heads / keyHeads * queries, DecodeRows);
        int splitKeys = SplitKeys(keys, groups);
        int splits = (int)CudaLaunch.CeilDiv(keys, splitKeys);
        int columns = (dimension + 3) / 4 * 4;
        long rows = (long)batch * heads * queries;
        using Tensor? sums = splits > 1 ? Tensor.Empty([batch, heads, queries, splits, columns], DType.F32, q.Device) : null;
        using Tensor? statistics = splits > 1 ? Tensor.Empty([batch, heads, queries, splits, 2], DType.F32, q.Device) : null;
        var parameters = new DecodeParams
        {
            Q = q.Pointer,
            K = k.Pointer,
            V = v.Pointer,
            O = o.Pointer,
            Lse = CudaLaunch.PointerOf(lse),
            KeyStart = keyStart.Pointer,
            Length = CudaLaunch.PointerOf(length),
            Sums = CudaLaunch.PointerOf(sums),
            Statistics = CudaLaunch.PointerOf(statistics),
            QStrides = new HeadStrides(q),
            KStrides = new HeadStrides(k),
            VStrides = new HeadStrides(v),
            OStrides = new HeadStrides(o),
            Shape = new AttentionShape(q, k, queryOffset, scale, [k, v]),
            SplitKeys = splitKeys,
            Splits = splits,
            Columns = columns,
        };
        s_decode[index].Launch(
            q.Device, q.DType, LaunchShape.Blocks(groups * splits, DecodeThreads), parameters,
            new KernelWork((2 * q.ByteLength) + (2 * k.ByteLength), 4 * rows * keys * dimension));
        if (splits > 1)
        {
            s_combine.Launch(
                q.Device, q.DType, LaunchShape.Blocks(rows, CombineThreads), parameters,
                new KernelWork(sums!.ByteLength + statistics!.ByteLength + o.ByteLength, 2 * sums.Elements));
        }
    }

    // Keys of a block: a multiple of the least, chosen from the shape alone.
    private static int SplitKeys(int keys, long groups)
    {
        long splits = Math.Clamp(WantedBlocks / groups, 1, MostSplits);
        long splitKeys = CudaLaunch.CeilDiv(keys, splits);
        return checked((int)(Math.Max(1, CudaLaunch.CeilDiv(splitKeys, LeastSplitKeys)) * LeastSplitKeys));
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct DecodeParams
    {
        public nint Q;
        public nint K;
        public nint V;
        public nint O;
        public nint Lse;
        public nint KeyStart;
        public nint Length;
        public nint Sums;
        public nint Statistics;
        public HeadStrides QStrides;
        public HeadStrides KStrides;
        public HeadStrides VStrides;
        public HeadStrides OStrides;
        public AttentionShape Shape;
        public int SplitKeys;
        public int Splits;
        public int Columns;
    }
}
