using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>
/// Corrections in device memory: for each tile of 128 rows of 256 bytes a segment that begins at a multiple of 16 bytes. List:
/// the original elements, then their places in the tile (row · its full width + column) in 2 bytes each. Where that would be
/// longer than the tile: the tile's original elements, row by row. The form follows from the count. So a correction is never
/// longer than the matrix and 27 bytes a tile. Segments lie without gaps, in an order that is not defined.
/// </summary>
internal sealed class MergeRecords : IDisposable
{
    private const long BytesOfTile = sizeof(int) + sizeof(long);

    private CudaDeviceVariable<byte>? _segments;

    /// <summary>Takes memory for the tiles' counts and places.</summary>
    /// <exception cref="DeviceOutOfMemoryException">There is not enough.</exception>
    public MergeRecords(CudaDevice device, int tiles)
    {
        Device = device;
        Counts = new CudaDeviceVariable<int>(device, tiles);
        try
        {
            Begins = new CudaDeviceVariable<long>(device, tiles);
        }
        catch
        {
            Counts.Dispose();
            throw;
        }
    }

    public CudaDevice Device { get; }

    /// <summary>Records of each tile.</summary>
    public CudaDeviceVariable<int> Counts { get; }

    /// <summary>Where each tile's segment begins.</summary>
    public CudaDeviceVariable<long> Begins { get; }

    /// <summary>The segments, once <see cref="Take"/> has made room for them.</summary>
    public CudaDeviceVariable<byte> Segments => _segments ?? throw new InvalidOperationException("the segments have no memory");

    public long Elements { get; private set; }

    public long SizeInBytes => (_segments?.Length ?? 0) + (BytesOfTile * Counts.Length);

    /// <summary>Takes memory for the segments.</summary>
    /// <exception cref="DeviceOutOfMemoryException">There is not enough.</exception>
    public void Take(long bytes, long elements)
    {
        _segments = new CudaDeviceVariable<byte>(Device, bytes);
        Elements = elements;
    }

    /// <summary>Elements and bytes of each matrix; waits for the device.</summary>
    public (long Elements, long Bytes)[] Sizes(ReadOnlySpan<MergeSignature> matrices)
    {
        var counts = new int[Counts.Length];
        Counts.CopyToHost(counts);
        var sizes = new (long, long)[matrices.Length];
        int tile = 0;
        for (int i = 0; i < sizes.Length; i++)
        {
            (int rows, int columns) = (matrices[i].Shape[0], matrices[i].Shape[1]);
            int size = matrices[i].DType.Size();
            int width = DeltaFactors.TileColumns(matrices[i].DType);
            (long elements, long bytes) = (0, 0);
            for (int row = 0; row < rows; row += DeltaFactors.TileRows)
            {
                for (int column = 0; column < columns; column += width, tile++)
                {
                    long kept = (long)Math.Min(DeltaFactors.TileRows, rows - row) * Math.Min(width, columns - column) * size;
                    elements += counts[tile];
                    bytes += (CudaLaunch.CeilDiv(Math.Min(counts[tile] * (size + 2L), kept), 16) * 16) + BytesOfTile;
                }
            }

            sizes[i] = (elements, bytes);
        }

        return sizes;
    }

    public void Dispose()
    {
        _segments?.Dispose();
        Counts.Dispose();
        Begins.Dispose();
    }
}
