using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>
/// Merge on CUDA: all matrices in one launch. Whatever needs memory takes it before the first matrix is changed, but for the
/// records of an exact merge, whose length shows only then; see <see cref="ApplyExact"/>.
/// </summary>
internal static class MergeCuda
{
    // A bf16 list takes 4 bytes for an element of 2 and 5 to 10% of the elements, an f32 list 6 bytes for 4.
    private const int PoolShare = 5;

    // As in kernels-cu/merge/strip.cuh: bytes of a strip's row; a block's two entries of the table, the right factor of a strip (of
    // 2-byte elements, which have the most columns) and three steps of 16 rows with their part of the left one.
    private const int StripBytes = 1024;
    private const int StripBlocks = 2;
    private const int ReservedBytes = 1024;
    private static readonly uint s_stripSharedBytes = (uint)(
        (2 * Unsafe.SizeOf<MergeTable.MatrixEntry>()) + (StripBytes / 2 * DeltaFactors.ItemBytes)
        + (3 * 16 * (StripBytes + DeltaFactors.ItemBytes)));

    // Segments take multiples of 16 bytes, and so does the pool: all of it is written.
    private const int SegmentUnit = 16;

    private static readonly KernelFamily<MergeTable.PackParams> s_pack = new("merge", "merge_pack");
    private static readonly KernelFamily<MergeParams> s_apply = new("merge", "merge_apply");
    private static readonly KernelFamily<MergeParams> s_applySlice = new("merge", "merge_apply_slice");
    private static readonly KernelFamily<MergeParams> s_exact = new("merge", "merge_exact");
    private static readonly KernelFamily<MergeParams> s_undo = new("merge", "merge_undo");
    private static readonly KernelFamily<ReportParams> s_report = new("merge", "merge_report");
    private static readonly KernelFamily<ReportParams> s_reportSum = new("merge", "merge_report_sum");

    /// <summary>The arguments have been checked.</summary>
    public static void Apply(Device device, ReadOnlySpan<MergeMatrix> matrices)
    {
        var cuda = (CudaDevice)device;
        bool byStrips = HaveOneSlice(matrices) && HoldsStrips(cuda.Context.SharedBytesPerBlock);
        using var table = new MergeTable(
            "Merge.Apply", cuda, s_pack, matrices, byStrips ? StripBytes : DeltaFactors.TileRowBytes);
        var parameters = new MergeParams { Table = table.Parameters, Strips = table.Tiles };
        if (byStrips)
        {
            table.LaunchResident(s_applySlice, parameters, 2 * table.MatrixBytes, StripBlocks, s_stripSharedBytes);
        }
        else
        {
            table.Launch(s_apply, parameters, 2 * table.MatrixBytes);
        }
    }

    /// <summary>
    /// Whether a multiprocessor holds two blocks that take strips: one alone came to 70% of a copy on an H200 (32 × 4096², 2026-11-27),
    /// where the kernel that goes by tiles has 79%, and some GPUs have no room for one.
    /// </summary>
    /// <param name="sharedBytesPerBlock">
    /// A block's most shared memory. A multiprocessor has 1 KB more, and each of its blocks costs as much beside its own.
    /// </param>
    internal static bool HoldsStrips(int sharedBytesPerBlock) =>
        StripBlocks * (s_stripSharedBytes + ReservedBytes) <= sharedBytesPerBlock + ReservedBytes;

    /// <summary>
    /// Merges and records. Records go to a pool of a fifth of the matrices' bytes first; one wait tells how many there are, and
    /// they are copied to memory of just their length. Tiles for which the pool is full, as all are when Δ is as large as W, are
    /// left as they are meanwhile and merged by a second launch, which writes their records to their place.
    /// </summary>
    /// <remarks>
    /// When memory runs out, all that has been merged is undone from the pool and tried again without a pool: a first launch that
    /// only counts, a second one that merges, at half the speed. So an exact merge needs no more than the records take, and when
    /// not even that is there all matrices are as they were.
    /// </remarks>
    public static MergeRecords ApplyExact(Device device, ReadOnlySpan<MergeMatrix> matrices)
    {
        var cuda = (CudaDevice)device;
        using var table = new MergeTable("Merge.ApplyExact", cuda, s_pack, matrices);
        var records = new MergeRecords(cuda, table.Tiles);
        try
        {
            try
            {
                Record(cuda, table, records, table.MatrixBytes / PoolShare / SegmentUnit * SegmentUnit);
            }
            catch (DeviceOutOfMemoryException)
            {
                Record(cuda, table, records, 0);
            }

            return records;
        }
        catch
        {
            records.Dispose();
            throw;
        }
    }

    /// <summary>The records are those of <see cref="ApplyExact"/> of matrices of the same extents.</summary>
    public static void Undo(Device device, ReadOnlySpan<MergeMatrix> matrices, MergeRecords records)
    {
        using var table = new MergeTable("Merge.Undo", (CudaDevice)device, s_pack, matrices);
        table.Launch(
            s_undo,
            new MergeParams
            {
                Table = table.Parameters,
                Segments = records.Segments.DevicePointer,
                Counts = records.Counts.DevicePointer,
                Begins = records.Begins.DevicePointer,
                Capacity = long.MaxValue,
            },
            (2 * table.MatrixBytes) + records.SizeInBytes);
    }

    /// <summary>The errors of a merge that is not made; waits for the device.</summary>
    public static MergeError[] Report(Device device, ReadOnlySpan<MergeMatrix> matrices)
    {
        var cuda = (CudaDevice)device;
        using var table = new MergeTable("Merge.Report", cuda, s_pack, matrices);
        using var tiles = new CudaDeviceVariable<Sums>(cuda, table.Tiles);
        using var errors = new CudaDeviceVariable<Sums>(cuda, matrices.Length);
        var parameters = new ReportParams
        {
            Table = table.Parameters,
            TileErrors = tiles.DevicePointer,
            Errors = errors.DevicePointer,
            Tiles = table.Tiles,
        };
        table.Launch(s_report, parameters, table.MatrixBytes);
        s_reportSum.Launch(cuda, LaunchShape.Blocks(matrices.Length, DeltaFactors.Threads), parameters);
        var sums = new Sums[matrices.Length];
        errors.CopyToHost(sums);
        var result = new MergeError[sums.Length];
        for (int i = 0; i < result.Length; i++)
        {
            result[i] = new MergeError(
                Math.Sqrt(sums[i].Loss), Math.Sqrt(sums[i].Delta), sums[i].Largest, sums[i].Vanished, matrices[i].Elements);
        }

        return result;
    }

    private static bool HaveOneSlice(ReadOnlySpan<MergeMatrix> matrices)
    {
        foreach (MergeMatrix matrix in matrices)
        {
            if (DeltaFactors.Slices(matrix) > 1)
            {
                return false;
            }
        }

        return true;
    }

    private static void Record(CudaDevice device, MergeTable table, MergeRecords records, long poolBytes)
    {
        using var pool = new CudaDeviceVariable<byte>(device, poolBytes);
        using var used = new CudaDeviceVariable<long>(device, 2);
        device.Clear(used.DevicePointer, 2 * sizeof(long));
        var parameters = new MergeParams
        {
            Table = table.Parameters,
            Segments = pool.DevicePointer,
            Counts = records.Counts.DevicePointer,
            Begins = records.Begins.DevicePointer,
            Used = used.DevicePointer,
            Capacity = poolBytes,
        };
        table.Launch(s_exact, parameters, 2 * table.MatrixBytes);
        Span<long> totals = stackalloc long[2];
        used.CopyToHost(totals);
        try
        {
            records.Take(totals[0], totals[1]);
        }
        catch
        {
            table.Launch(s_undo, parameters, 2 * table.MatrixBytes);
            throw;
        }

        // Places are numbered through both parts: what lies in the pool stays where it is.
        device.Copy(pool.DevicePointer, records.Segments.DevicePointer, Math.Min(totals[0], poolBytes));
        if (totals[0] > poolBytes)
        {
            parameters.Segments = records.Segments.DevicePointer;
            parameters.Rest = 1;
            table.Launch(s_exact, parameters, 2 * table.MatrixBytes);
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct MergeParams
    {
        public MergeTable.TableParams Table;
        public nint Segments;
        public nint Counts;
        public nint Begins;
        public nint Used;
        public long Capacity;
        public int Rest;
        public int Strips;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ReportParams
    {
        public MergeTable.TableParams Table;
        public nint TileErrors;
        public nint Errors;
        public int Tiles;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Sums
    {
        public double Loss;
        public double Delta;
        public double Largest;
        public long Vanished;
    }
}
