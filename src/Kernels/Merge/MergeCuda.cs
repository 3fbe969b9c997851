using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>
/// Merge on CUDA, one tile of the matrix a block. The records of an exact merge go to a segment of the tile's own size
/// first; their counts decide where each segment goes in memory that is just large enough.
/// </summary>
internal static class MergeCuda
{
    private static readonly KernelFamily<DeltaFactors.PackParams> s_pack = new("merge", "merge_pack");
    private static readonly KernelFamily<TileParams> s_apply = new("merge", "merge_apply");
    private static readonly KernelFamily<TileParams> s_exact = new("merge", "merge_exact");
    private static readonly KernelFamily<TileParams> s_undo = new("merge", "merge_undo");
    private static readonly KernelFamily<CompactParams> s_compact = new("merge", "merge_compact");

    /// <summary>The arguments have been checked.</summary>
    public static void Apply(Device device, RowMatrix w, ReadOnlySpan<MergeTerm> terms, bool transposed)
    {
        using DeltaFactors factors = Pack(device, w, terms, transposed);
        Launch(s_apply, device, w, Parameters(w, factors), 0);
    }

    /// <summary>Waits for the counts.</summary>
    public static MergeRecords ApplyExact(Device device, RowMatrix w, ReadOnlySpan<MergeTerm> terms, bool transposed)
    {
        int tiles = Tiles(w);
        long capacity = (long)DeltaFactors.TileRows * DeltaFactors.TileColumns * w.DType.Size();
        var counts = new CudaDeviceVariable<int>((CudaDevice)device, tiles);
        try
        {
            using var segments = new CudaDeviceVariable<byte>((CudaDevice)device, tiles * capacity);
            using DeltaFactors factors = Pack(device, w, terms, transposed);
            TileParams parameters = Parameters(w, factors);
            parameters.Segments = segments.DevicePointer;
            parameters.Counts = counts.DevicePointer;
            Launch(s_exact, device, w, parameters, 0);
            return Compact(device, w, segments, counts, capacity);
        }
        catch
        {
            counts.Dispose();
            throw;
        }
    }

    /// <summary>The records are those of <see cref="ApplyExact"/> of a matrix of the same extents.</summary>
    public static void Undo(Device device, RowMatrix w, ReadOnlySpan<MergeTerm> terms, bool transposed, MergeRecords records)
    {
        using DeltaFactors factors = Pack(device, w, terms, transposed);
        TileParams parameters = Parameters(w, factors);
        parameters.Segments = records.Segments.DevicePointer;
        parameters.Counts = records.Counts.DevicePointer;
        parameters.Offsets = records.Offsets.DevicePointer;
        Launch(s_undo, device, w, parameters, records.Segments.Length);
    }

    private static MergeRecords Compact(
        Device device, RowMatrix w, CudaDeviceVariable<byte> segments, CudaDeviceVariable<int> counts, long capacity)
    {
        var host = new int[counts.Length];
        counts.CopyToHost(host);
        var begins = new long[host.Length + 1];
        int across = TilesAcross(w);
        long elements = 0;
        for (int tile = 0; tile < host.Length; tile++)
        {
            elements += host[tile];
            begins[tile + 1] = begins[tile] + SegmentBytes(w, tile / across, tile % across, host[tile]);
        }

        var offsets = new CudaDeviceVariable<long>((CudaDevice)device, begins.Length);
        CudaDeviceVariable<byte>? compact = null;
        try
        {
            compact = new CudaDeviceVariable<byte>((CudaDevice)device, begins[^1]);
            offsets.CopyToDevice(begins);
            s_compact.Launch(
                device,
                LaunchShape.Blocks(host.Length, 128),
                new CompactParams
                {
                    From = segments.DevicePointer,
                    To = compact.DevicePointer,
                    Offsets = offsets.DevicePointer,
                    Capacity = capacity,
                },
                new KernelWork(2 * begins[^1]));
            return new MergeRecords(device, compact, offsets, counts, elements);
        }
        catch
        {
            offsets.Dispose();
            compact?.Dispose();
            throw;
        }
    }

    // As in the kernel: a list of originals and 2-byte places, or the tile itself where that is shorter; in units of 16 bytes.
    private static long SegmentBytes(RowMatrix w, int tileRow, int tileColumn, int count)
    {
        int size = w.DType.Size();
        long rows = Math.Min(DeltaFactors.TileRows, w.Rows - (tileRow * DeltaFactors.TileRows));
        long columns = Math.Min(DeltaFactors.TileColumns, w.Columns - (tileColumn * DeltaFactors.TileColumns));
        return CudaLaunch.CeilDiv(Math.Min(count * (size + 2L), rows * columns * size), 16) * 16;
    }

    private static DeltaFactors Pack(Device device, RowMatrix w, ReadOnlySpan<MergeTerm> terms, bool transposed)
    {
        (int outputs, int inputs) = transposed ? (w.Columns, w.Rows) : (w.Rows, w.Columns);
        return DeltaFactors.Pack(s_pack, terms, outputs, inputs, transposed, device);
    }

    private static TileParams Parameters(RowMatrix w, DeltaFactors factors) => new()
    {
        W = w.Address,
        Factors = factors.Parameters,
        Stride = w.Stride,
        Rows = w.Rows,
        Columns = w.Columns,
        TilesAcross = TilesAcross(w),
        Vectors = CudaLaunch.Aligned(w.Address) && w.Stride * w.DType.Size() % 16 == 0 ? 1 : 0,
    };

    private static void Launch(KernelFamily<TileParams> kernel, Device device, RowMatrix w, in TileParams parameters, long moreBytes)
    {
        long elements = (long)w.Rows * w.Columns;
        long factorBytes = 4L * parameters.Factors.Rank * (w.Rows + (long)w.Columns);
        kernel.Launch(
            device,
            w.DType,
            LaunchShape.Blocks(Tiles(w), DeltaFactors.Threads),
            parameters,
            new KernelWork((2 * elements * w.DType.Size()) + factorBytes + moreBytes, ((2L * parameters.Factors.Rank) + 1) * elements));
    }

    private static int TilesAcross(RowMatrix w) => (int)CudaLaunch.CeilDiv(w.Columns, DeltaFactors.TileColumns);

    private static int Tiles(RowMatrix w) => checked((int)(CudaLaunch.CeilDiv(w.Rows, DeltaFactors.TileRows) * TilesAcross(w)));

    [StructLayout(LayoutKind.Sequential)]
    private struct TileParams
    {
        public nint W;
        public DeltaFactors.Operand Factors;
        public nint Segments;
        public nint Counts;
        public nint Offsets;
        public long Stride;
        public int Rows;
        public int Columns;
        public int TilesAcross;
        public int Vectors;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct CompactParams
    {
        public nint From;
        public nint To;
        public nint Offsets;
        public long Capacity;
    }
}
