using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>
/// Matrices for one launch: a table of them in device memory with their tiles numbered through, and all their adapters' factors,
/// packed in one launch. A single matrix with one adapter travels in the kernels' parameters: nothing is uploaded. Holds
/// addresses: the tensors outlive it.
/// </summary>
internal sealed class MergeTable : IDisposable
{
    private readonly CudaDevice _device;
    private readonly int _tileRowBytes;
    private readonly CudaDeviceVariable<byte> _memory;

    /// <summary>Uploads the table, not while work is recorded, and queues the packing. Dispose once the kernels have been queued.</summary>
    /// <param name="op">For messages.</param>
    /// <param name="device">Where the matrices are.</param>
    /// <param name="pack">The kernel that packs factors.</param>
    /// <param name="matrices">The matrices and their adapters.</param>
    /// <param name="tileRowBytes">Bytes of a row of the kernel's tiles, which have <see cref="DeltaFactors.TileRows"/>.</param>
    /// <exception cref="NotSupportedException">A matrix's dtype is not one that kernels store.</exception>
    /// <exception cref="DeviceOutOfMemoryException">There is no memory for table and factors.</exception>
    public MergeTable(
        string op,
        CudaDevice device,
        KernelFamily<PackParams> pack,
        ReadOnlySpan<MergeMatrix> matrices,
        int tileRowBytes = DeltaFactors.TileRowBytes)
    {
        (_device, _tileRowBytes) = (device, tileRowBytes);
        long factorBytes = 0;
        int packCount = 0;
        foreach (MergeMatrix matrix in matrices)
        {
            factorBytes += DeltaFactors.Bytes(DeltaFactors.Slices(matrix), matrix.Outputs, matrix.Inputs);
            packCount += matrix.Terms.Count;
        }

        var entries = new MatrixEntry[matrices.Length];
        var packs = new DeltaFactors.PackParams[packCount];
        bool inParameters = entries.Length <= 1 && packCount <= 1;
        int entryBytes = MemoryMarshal.AsBytes(entries.AsSpan()).Length;
        int tableBytes = inParameters ? 0 : entryBytes + MemoryMarshal.AsBytes(packs.AsSpan()).Length;
        _memory = new CudaDeviceVariable<byte>(device, factorBytes + tableBytes);
        try
        {
            nint at = _memory.DevicePointer;
            packCount = 0;
            int blocks = 0;
            for (int i = 0; i < entries.Length; i++)
            {
                entries[i] = Entry(op, matrices[i], at);
                for (int t = 0; t < matrices[i].Terms.Count; t++, packCount++)
                {
                    packs[packCount] = DeltaFactors.PackOf(matrices[i], t, at);
                    packs[packCount].FirstBlock = blocks;
                    blocks = checked((int)(blocks + packs[packCount].Blocks));
                }

                at += (nint)DeltaFactors.Bytes(entries[i].Factors.Slices, matrices[i].Outputs, matrices[i].Inputs);
            }

            nint table = _memory.DevicePointer + (nint)factorBytes;
            if (!inParameters)
            {
                device.CopyFromHost([.. MemoryMarshal.AsBytes(entries.AsSpan()), .. MemoryMarshal.AsBytes(packs.AsSpan())], table);
            }

            Parameters = new TableParams
            {
                Matrices = inParameters ? 0 : table,
                Count = entries.Length,
                Only = inParameters ? entries.FirstOrDefault() : default,
            };
            pack.Launch(
                device,
                LaunchShape.Blocks(blocks, DeltaFactors.Threads),
                new PackParams
                {
                    Packs = inParameters ? 0 : table + entryBytes,
                    Count = packCount,
                    Only = inParameters ? packs.FirstOrDefault() : default,
                },
                new KernelWork(2 * factorBytes));
        }
        catch
        {
            _memory.Dispose();
            throw;
        }
    }

    /// <summary>What the kernels take.</summary>
    public TableParams Parameters { get; }

    /// <summary>Tiles of all matrices.</summary>
    public int Tiles { get; private set; }

    /// <summary>Bytes of all matrices.</summary>
    public long MatrixBytes { get; private set; }

    /// <summary>Bytes of all factors, counted once.</summary>
    public long FactorBytes { get; private set; }

    /// <summary>Multiply-adds, counted as two operations, and one addition for each element.</summary>
    public long Flops { get; private set; }

    /// <summary>Queues a kernel with a block for each tile.</summary>
    /// <param name="kernel">The kernel.</param>
    /// <param name="parameters">Its parameters.</param>
    /// <param name="bytes">What it moves beside the factors.</param>
    public void Launch<T>(KernelFamily<T> kernel, in T parameters, long bytes)
        where T : unmanaged => Launch(kernel, Tiles, DeltaFactors.SharedBytes, parameters, bytes);

    /// <summary>Queues a kernel whose blocks take the tiles in turn, as many as the GPU holds at once.</summary>
    /// <param name="kernel">The kernel.</param>
    /// <param name="parameters">Its parameters.</param>
    /// <param name="bytes">What it moves beside the factors.</param>
    /// <param name="blocksPerMultiprocessor">Blocks that a multiprocessor holds.</param>
    /// <param name="sharedBytes">Dynamic shared memory of a block.</param>
    public void LaunchResident<T>(
        KernelFamily<T> kernel, in T parameters, long bytes, int blocksPerMultiprocessor, uint sharedBytes)
        where T : unmanaged => Launch(
            kernel,
            Math.Min(Tiles, blocksPerMultiprocessor * _device.Context.Multiprocessors),
            sharedBytes,
            parameters,
            bytes);

    /// <inheritdoc/>
    public void Dispose() => _memory.Dispose();

    private void Launch<T>(KernelFamily<T> kernel, long blocks, uint sharedBytes, in T parameters, long bytes)
        where T : unmanaged => kernel.Launch(
            _device,
            LaunchShape.Blocks(blocks, DeltaFactors.Threads, sharedBytes),
            parameters,
            new KernelWork(bytes + FactorBytes, Flops));

    private MatrixEntry Entry(string op, in MergeMatrix matrix, nint factors)
    {
        RowMatrix w = matrix.W;
        int across = (int)CudaLaunch.CeilDiv((long)w.Columns * w.DType.Size(), _tileRowBytes);
        var entry = new MatrixEntry
        {
            W = w.Address,
            Factors = DeltaFactors.OperandOf(matrix, factors),
            Stride = w.Stride,
            Rows = w.Rows,
            Columns = w.Columns,
            TilesAcross = across,
            FirstTile = Tiles,
            Type = KernelTypes.Code(op, _device, w.DType),
            Vectors = CudaLaunch.Aligned(w.Address) && w.Stride * w.DType.Size() % 16 == 0 ? 1 : 0,
        };
        Tiles = checked((int)(Tiles + (CudaLaunch.CeilDiv(w.Rows, DeltaFactors.TileRows) * across)));
        MatrixBytes += matrix.Elements * w.DType.Size();
        FactorBytes += (long)DeltaFactors.ItemBytes * entry.Factors.Slices * (w.Rows + (long)w.Columns);
        Flops += ((2L * matrix.Rank) + 1) * matrix.Elements;
        return entry;
    }

    /// <summary><c>MergeTable</c> of the kernels.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct TableParams
    {
        public nint Matrices;
        public long Count;
        public MatrixEntry Only;
    }

    /// <summary><c>MergePackParams</c> of the kernels.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct PackParams
    {
        public nint Packs;
        public long Count;
        public DeltaFactors.PackParams Only;
    }

    /// <summary><c>MergeMatrix</c> of the kernels.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct MatrixEntry
    {
        public nint W;
        public DeltaFactors.Operand Factors;
        public long Stride;
        public int Rows;
        public int Columns;
        public int TilesAcross;
        public int FirstTile;
        public int Type;
        public int Vectors;
    }
}
