using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>
/// Attention on CUDA: tensor cores for bf16 and f16 (probabilities are rounded to the dtype on the way), full f32 for f32;
/// a few queries go to the decode kernel. Head dimensions up to 256, padded inside the kernel to the next of
/// <see cref="s_dimensions"/>. Where the image has kernels with Hopper's warpgroup products they take the head dimensions they suit.
/// </summary>
internal static partial class AttentionCuda
{
    private const string Image = "attention";

    private static readonly int[] s_dimensions = [32, 64, 96, 128, 256];
    private static readonly KernelFamily<ForwardParams>[] s_forward = Families<ForwardParams>("attention_fwd_d");
    private static readonly KernelFamily<BackwardParams>[] s_backwardKeys = Families<BackwardParams>("attention_bwd_kv_d");
    private static readonly KernelFamily<BackwardParams>[] s_backwardQueries = Families<BackwardParams>("attention_bwd_q_d");
    private static readonly KernelFamily<BackwardParams> s_delta = new(Image, "attention_bwd_delta");

    /// <summary>Computes o and lse; the arguments have been checked.</summary>
    public static void Forward(
        Tensor q, Tensor k, Tensor v, Tensor keyStart, int queryOffset, float scale, Tensor o, Tensor? lse)
    {
        if (q.Elements == 0)
        {
            return;
        }

        if (q.Shape[1] <= MostDecodeQueries)
        {
            Decode(q, k, v, keyStart, length: null, queryOffset, scale, o, lse);
            return;
        }

        int index = DimensionIndex(q);
        int dimension = s_dimensions[index];
        var parameters = new ForwardParams
        {
            Q = q.Pointer,
            K = k.Pointer,
            V = v.Pointer,
            O = o.Pointer,
            Lse = CudaLaunch.PointerOf(lse),
            KeyStart = keyStart.Pointer,
            QStrides = new HeadStrides(q),
            KStrides = new HeadStrides(k),
            VStrides = new HeadStrides(v),
            OStrides = new HeadStrides(o),
            Shape = new AttentionShape(q, k, queryOffset, scale, [q, k, v, o]),
        };
        if (scale > 0 && TryForwardByWarpgroups(q, k, parameters))
        {
            return;
        }

        bool full = q.DType == DType.F32;
        int rows = full ? (dimension > 128 ? 32 : 64) : ForwardRows(dimension);
        long tiles = CudaLaunch.CeilDiv(q.Shape[1], rows);
        s_forward[index].Launch(
            q.Device,
            q.DType,
            LaunchShape.Blocks(
                tiles * q.Shape[0] * q.Shape[2],
                full ? 4 * (uint)rows : Threads,
                full ? FullForwardShared(dimension, rows) : ForwardShared(dimension)),
            parameters,
            WorkOf(q, k, backward: false, products: 2));
    }

    /// <summary>Computes dq, dk and dv; the arguments have been checked. Returns whether dq and dk have been turned back.</summary>
    public static bool Backward(
        Tensor dO, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, Tensor keyStart, float scale, Tensor dq, Tensor dk, Tensor dv,
        Rotation? rotation)
    {
        if (q.Elements == 0)
        {
            return true;
        }

        int index = DimensionIndex(q);
        int dimension = s_dimensions[index];
        (int batch, int queries, int heads, int keyHeads) = (q.Shape[0], q.Shape[1], q.Shape[2], k.Shape[2]);
        bool full = q.DType == DType.F32;
        using Tensor delta = Tensor.Empty(full ? [batch, heads, queries] : [batch, heads, queries, 2], DType.F32, q.Device);
        var parameters = new BackwardParams
        {
            DO = dO.Pointer,
            Q = q.Pointer,
            K = k.Pointer,
            V = v.Pointer,
            O = o.Pointer,
            Lse = lse.Pointer,
            Delta = delta.Pointer,
            KeyStart = keyStart.Pointer,
            DQ = dq.Pointer,
            DK = dk.Pointer,
            DV = dv.Pointer,
            DOStrides = new HeadStrides(dO),
            QStrides = new HeadStrides(q),
            KStrides = new HeadStrides(k),
            VStrides = new HeadStrides(v),
            OStrides = new HeadStrides(o),
            DQStrides = new HeadStrides(dq),
            DKStrides = new HeadStrides(dk),
            DVStrides = new HeadStrides(dv),
            Shape = new AttentionShape(q, k, 0, scale, [dO, q, k, v, o, dq, dk, dv]),
        };

        if (full)
        {
            FullBackward(q, k, index, parameters);
            return false;
        }

        if (TryBackwardByWarpgroups(q, k, parameters, rotation, out bool turned))
        {
            return turned;
        }

        // The pass over the queries leaves delta for the one over the keys.
        s_backwardQueries[index].Launch(
            q.Device,
            q.DType,
            LaunchShape.Blocks(
                CudaLaunch.CeilDiv(queries, BackwardQueriesRows(dimension)) * batch * heads, Threads, BackwardQueriesShared(dimension)),
            parameters,
            WorkOf(q, k, backward: true, products: 3));

        // D 256 leaves no registers for both gradients: blocks come in pairs, one for dv and one for dk.
        bool pairs = dimension > 128;
        s_backwardKeys[index].Launch(
            q.Device,
            q.DType,
            LaunchShape.Blocks(
                CudaLaunch.CeilDiv(queries, BackwardKeysRows(dimension)) * batch * keyHeads * (pairs ? 2 : 1),
                pairs ? Threads / 2 : Threads,
                BackwardKeysShared(dimension)),
            parameters,
            WorkOf(q, k, backward: true, products: 4));
        return false;
    }

    private static void FullBackward(Tensor q, Tensor k, int index, in BackwardParams parameters)
    {
        // One lane for each 16 bytes of a row, rounded up to a power of two.
        int lanes = 1;
        while (lanes < 32 && lanes * 4 < q.Shape[3])
        {
            lanes *= 2;
        }

        const int DeltaThreads = 256;
        long rows = (long)q.Shape[0] * q.Shape[1] * q.Shape[2];
        s_delta.Launch(
            q.Device, DType.F32, LaunchShape.Blocks(CudaLaunch.CeilDiv(rows * lanes, DeltaThreads), DeltaThreads), parameters,
            new KernelWork((2 * q.ByteLength) + (4 * rows), 2 * q.Elements));

        int dimension = s_dimensions[index];
        int tile = dimension > 128 ? 16 : 32;
        long tiles = CudaLaunch.CeilDiv(q.Shape[1], tile) * q.Shape[0];
        s_backwardKeys[index].Launch(
            q.Device,
            DType.F32,
            LaunchShape.Blocks(tiles * k.Shape[2], 4 * (uint)tile, FullBackwardShared(dimension, tile, 2)),
            parameters,
            WorkOf(q, k, backward: true, products: 4));
        s_backwardQueries[index].Launch(
            q.Device,
            DType.F32,
            LaunchShape.Blocks(tiles * q.Shape[2], 4 * (uint)tile, FullBackwardShared(dimension, tile, 1)),
            parameters,
            WorkOf(q, k, backward: true, products: 3));
    }

    // What these kernels read and write once, and products of 2·D for each visible pair.
    private static KernelWork WorkOf(Tensor q, Tensor k, bool backward, int products)
    {
        var c = new AttentionCase(q.Shape[0], q.Shape[1], k.Shape[1], q.Shape[2], k.Shape[2], q.Shape[3], q.DType, backward);
        return new KernelWork(c.Bytes, c.Flops / (backward ? 5 : 2) * products);
    }

    private static int DimensionIndex(Tensor q)
    {
        int index = Array.FindIndex(s_dimensions, d => d >= q.Shape[3]);
        return index >= 0 ? index : throw TooLarge(q);
    }

    private static NotSupportedException TooLarge(Tensor q) => new(
        $"Attention computes head dimensions up to {s_dimensions[^1]} on {q.Device.Name}, not {q.Shape[3]}; move the tensors to the cpu");

    private static KernelFamily<T>[] Families<T>(string name)
        where T : unmanaged => [.. s_dimensions.Select(d => new KernelFamily<T>(Image, name + d))];

    [StructLayout(LayoutKind.Sequential)]
    private readonly struct HeadStrides(Tensor tensor)
    {
        private readonly long _batch = tensor.Strides[0];
        private readonly long _row = tensor.Strides[1];
        private readonly long _head = tensor.Strides[2];
    }

    [StructLayout(LayoutKind.Sequential)]
    private readonly struct AttentionShape(Tensor q, Tensor k, int queryOffset, float scale, ReadOnlySpan<Tensor> operands)
    {
        private readonly int _batch = q.Shape[0];
        private readonly int _queries = q.Shape[1];
        private readonly int _keys = k.Shape[1];
        private readonly int _heads = q.Shape[2];
        private readonly int _keyHeads = k.Shape[2];
        private readonly int _dimension = q.Shape[3];
        private readonly int _queryOffset = queryOffset;
        private readonly int _vectors = AllVectors(operands) ? 1 : 0;
        private readonly float _scale = scale;

        /// <summary>Whether rows can be read and written 16 bytes at a time.</summary>
        public bool Vectors => _vectors != 0;

        private static bool AllVectors(ReadOnlySpan<Tensor> operands)
        {
            foreach (Tensor tensor in operands)
            {
                int size = tensor.DType.Size();
                bool vectors = CudaLaunch.AlignedRows(tensor, tensor.Shape[3]);
                for (int d = 0; d < 3; d++)
                {
                    vectors &= tensor.Shape[d] <= 1 || tensor.Strides[d] * size % 16 == 0;
                }

                if (!vectors)
                {
                    return false;
                }
            }

            return true;
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ForwardParams
    {
        public nint Q;
        public nint K;
        public nint V;
        public nint O;
        public nint Lse;
        public nint KeyStart;
        public HeadStrides QStrides;
        public HeadStrides KStrides;
        public HeadStrides VStrides;
        public HeadStrides OStrides;
        public AttentionShape Shape;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct BackwardParams
    {
        public nint DO;
        public nint Q;
        public nint K;
        public nint V;
        public nint O;
        public nint Lse;
        public nint Delta;
        public nint KeyStart;
        public nint DQ;
        public nint DK;
        public nint DV;
        public nint Cos;
        public nint Sin;
        public nint Positions;
        public HeadStrides DOStrides;
        public HeadStrides QStrides;
        public HeadStrides KStrides;
        public HeadStrides VStrides;
        public HeadStrides OStrides;
        public HeadStrides DQStrides;
        public HeadStrides DKStrides;
        public HeadStrides DVStrides;
        public AttentionShape Shape;
    }
}
