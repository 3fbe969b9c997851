using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>The rows of a batch sorted by adapter, in device memory: <c>RowPlan</c> of the kernels.</summary>
internal sealed class AdapterPlan : IDisposable
{
    private const int Head = 4;
    private const int EntryInts = 4;

    private static readonly KernelFamily<PlanParams> s_plan = new("groupedlowrank", "groupedlowrank_plan");

    private readonly int _batch;
    private readonly int _mostSegments;
    private readonly Tensor _plan;

    public AdapterPlan(int batch, int tokens, int tile, Device device)
    {
        (_batch, Tokens, Tile) = (batch, tokens, tile);
        _mostSegments = Math.Min(batch, AdapterTable.MostAdapters);
        MostTiles = checked((int)((long)batch * tokens / tile) + _mostSegments);
        int order = (batch + EntryInts - 1) / EntryInts * EntryInts;

        // Made in a step's first run, and used by its recording.
        using DurableScope durable = device.Durable();
        _plan = Tensor.Empty([checked(Head + order + (EntryInts * (_mostSegments + MostTiles)))], DType.I32, device);
    }

    /// <summary>Rows of activations for each row of the batch.</summary>
    public int Tokens { get; }

    /// <summary>Rows of a tile.</summary>
    public int Tile { get; }

    /// <summary>The most tiles there can be.</summary>
    public int MostTiles { get; }

    /// <summary>The most segments there can be.</summary>
    public int MostSegments => _mostSegments;

    /// <summary>What the kernels take.</summary>
    public RowPlan Parameters => new() { Data = _plan.Pointer, Batch = _batch, Tokens = Tokens, MostSegments = _mostSegments };

    /// <summary>Queues the sorting.</summary>
    public void Sort(Tensor indices) => s_plan.Launch(
        indices.Device,
        LaunchShape.Blocks(1, AdapterTable.MostAdapters),
        new PlanParams
        {
            Indices = indices.Pointer,
            Plan = _plan.Pointer,
            Batch = _batch,
            Tokens = Tokens,
            Tile = Tile,
            MostSegments = _mostSegments,
            MostTiles = MostTiles,
        },
        new KernelWork(indices.ByteLength + _plan.ByteLength));

    public void Dispose() => _plan.Dispose();

    /// <summary><c>RowPlan</c> of the kernels.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct RowPlan
    {
        public nint Data;
        public int Batch;
        public int Tokens;
        public int MostSegments;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct PlanParams
    {
        public nint Indices;
        public nint Plan;
        public int Batch;
        public int Tokens;
        public int Tile;
        public int MostSegments;
        public int MostTiles;
    }
}
