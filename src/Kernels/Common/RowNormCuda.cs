using System.Numerics;
using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>Launches the kernels of RMSNorm and LayerNorm (<c>common/rownorm_fwd.cuh</c>, <c>common/rownorm_bwd.cuh</c>).</summary>
/// <param name="op">The op: the stem of the image.</param>
/// <param name="name">What the entry points' names begin with.</param>
internal sealed class RowNormCuda(string op, string name)
{
    // kRowPacks and, times 32, the most warps of a row in common/rownorm.cuh; 16-bit rows need more registers.
    private const int PacksPerThread = 4;
    private const int MostThreads = 512;
    private const int MostThreadsOf16Bits = 320;
    private const int SharedBlock = 128;

    private readonly KernelFamily<ForwardParams> _forward = new(op, name + "_fwd");
    private readonly KernelFamily<BackwardParams> _backward = new(op, name + "_bwd");
    private readonly KernelFamily<WeightParams> _weight = new(op, name + "_dw");
    private readonly ColumnSumsCuda _sum = new(op, name + "_dw_sum");

    public void Forward(Tensor x, Tensor w, Tensor? b, float eps, Tensor y, Tensor? mean, Tensor? rstd) =>
        Forward(x, null, null, w, b, eps, y, mean, rstd);

    /// <summary>The same for s = x + d, as one kernel; false, and nothing done, where it would take another path than for s alone.</summary>
    public bool TryForwardOfSum(
        Tensor x, Tensor d, Tensor w, Tensor? b, float eps, Tensor s, Tensor y, Tensor? mean, Tensor? rstd)
    {
        int columns = Check.Columns(x);
        if (CudaLaunch.AlignedRows(s, columns) && !(AlignedStrides(x, columns) && AlignedStrides(d, columns)))
        {
            return false;
        }

        Forward(x, d, s, w, b, eps, y, mean, rstd);
        return true;
    }

    private void Forward(Tensor x, Tensor? d, Tensor? s, Tensor w, Tensor? b, float eps, Tensor y, Tensor? mean, Tensor? rstd)
    {
        int columns = Check.Columns(x);
        if (x.Elements == 0)
        {
            return;
        }

        int threads = RowThreads(columns, CudaLaunch.AlignedRows(s ?? x, columns) && AlignedStrides(y, columns), x.DType, w, b);
        _forward.Launch(
            x.Device,
            x.DType,
            Shape(x, columns, threads),
            new ForwardParams
            {
                X = x.Pointer,
                W = w.Pointer,
                B = CudaLaunch.PointerOf(b),
                D = CudaLaunch.PointerOf(d),
                S = CudaLaunch.PointerOf(s),
                Y = y.Pointer,
                Mean = CudaLaunch.PointerOf(mean),
                Rstd = CudaLaunch.PointerOf(rstd),
                Rows = Check.Rows(x),
                XStride = Check.RowStride(x),
                DStride = CudaLaunch.RowStride(d),
                YStride = Check.RowStride(y),
                Columns = columns,
                WType = KernelTypes.Code(op, w),
                BType = b is null ? 0 : KernelTypes.Code(op, b),
                Eps = eps,
                Share = 1f / columns,
                RowThreads = threads,
            },
            new KernelWork(((s is null ? 2 : 4) * x.ByteLength) + w.ByteLength + (rstd?.ByteLength ?? 0), 4 * x.Elements));
    }

    public void Backward(Tensor dy, Tensor x, Tensor w, Tensor? mean, Tensor rstd, Tensor? dx, Tensor? dw, Tensor? db, bool addX)
    {
        if (x.Elements == 0)
        {
            return;
        }

        // First the sums: dx may take the place of dy.
        WeightGradients(dy, x, mean, rstd, dw, db);
        if (dx is null)
        {
            return;
        }

        int columns = Check.Columns(x);
        bool aligned = CudaLaunch.AlignedRows(x, columns) && CudaLaunch.AlignedRows(dy, columns) && AlignedStrides(dx, columns);
        int threads = RowThreads(columns, aligned, x.DType, w, null);
        _backward.Launch(
            x.Device,
            x.DType,
            Shape(x, columns, threads),
            new BackwardParams
            {
                Dy = dy.Pointer,
                X = x.Pointer,
                W = w.Pointer,
                Mean = CudaLaunch.PointerOf(mean),
                Rstd = rstd.Pointer,
                Dx = dx.Pointer,
                Rows = Check.Rows(x),
                DxStride = Check.RowStride(dx),
                Columns = columns,
                WType = KernelTypes.Code(op, w),
                Accumulate = addX ? 1 : 0,
                Share = 1f / columns,
                RowThreads = threads,
            },
            new KernelWork(((addX ? 4 : 3) * x.ByteLength) + w.ByteLength + rstd.ByteLength, 10 * x.Elements));
    }

    private static bool AlignedStrides(Tensor tensor, int columns) =>
        CudaLaunch.AlignedRows(tensor, columns) && Check.RowStride(tensor) * tensor.DType.Size() % 16 == 0;

    // How many threads share a row that stays in registers, by its length and alignment alone: a power of two up to a warp, else
    // whole warps. 0 for rows that are walked element by element, a block each.
    private static int RowThreads(int columns, bool aligned, DType dtype, Tensor w, Tensor? b)
    {
        long packs = (long)columns * dtype.Size() / 16;
        int most = dtype == DType.F32 ? MostThreads : MostThreadsOf16Bits;
        if (!aligned || w.DType != dtype || (b is not null && b.DType != dtype) || packs > (long)PacksPerThread * most ||
            !CudaLaunch.Aligned(w.Pointer) || !CudaLaunch.Aligned(CudaLaunch.PointerOf(b)))
        {
            return 0;
        }

        int threads = (int)CudaLaunch.CeilDiv(packs, PacksPerThread);
        return threads > 32 ? (threads + 31) / 32 * 32 : (int)BitOperations.RoundUpToPowerOf2((uint)threads);
    }

    private static LaunchShape Shape(Tensor x, int columns, int rowThreads)
    {
        if (rowThreads == 0)
        {
            return LaunchShape.Blocks(Check.Rows(x), CudaLaunch.ThreadsFor(columns, 256));
        }

        int rows = rowThreads > 32 ? 1 : SharedBlock / rowThreads;
        return LaunchShape.Blocks(CudaLaunch.CeilDiv(Check.Rows(x), rows), (uint)(rows * rowThreads));
    }

    private void WeightGradients(Tensor dy, Tensor x, Tensor? mean, Tensor rstd, Tensor? dw, Tensor? db)
    {
        if (dw is null && db is null)
        {
            return;
        }

        int columns = Check.Columns(x);
        long rows = Check.Rows(x);
        (int chunks, long chunkRows) = CudaLaunch.RowChunks(rows);
        using Tensor weights = Tensor.Empty([chunks, columns], DType.F32, x.Device);
        using Tensor? biases = db is null ? null : weights.EmptyLike();
        _weight.Launch(
            x.Device,
            x.DType,
            new LaunchShape((uint)CudaLaunch.CeilDiv(columns, 32), (uint)chunks, 1, 256),
            new WeightParams
            {
                Dy = dy.Pointer,
                X = x.Pointer,
                Mean = CudaLaunch.PointerOf(mean),
                Rstd = rstd.Pointer,
                Dw = weights.Pointer,
                Db = CudaLaunch.PointerOf(biases),
                Rows = rows,
                ChunkRows = chunkRows,
                Columns = columns,
            },
            new KernelWork((2 * x.ByteLength) + weights.ByteLength, 4 * x.Elements));
        if (dw is not null)
        {
            _sum.AddTo(weights, chunks, columns, dw);
        }

        if (db is not null)
        {
            _sum.AddTo(biases!, chunks, columns, db);
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ForwardParams
    {
        public nint X;
        public nint W;
        public nint B;
        public nint D;
        public nint S;
        public nint Y;
        public nint Mean;
        public nint Rstd;
        public long Rows;
        public long XStride;
        public long DStride;
        public long YStride;
        public int Columns;
        public int WType;
        public int BType;
        public float Eps;
        public float Share;
        public int RowThreads;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct BackwardParams
    {
        public nint Dy;
        public nint X;
        public nint W;
        public nint Mean;
        public nint Rstd;
        public nint Dx;
        public long Rows;
        public long DxStride;
        public int Columns;
        public int WType;
        public int Accumulate;
        public float Share;
        public int RowThreads;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct WeightParams
    {
        public nint Dy;
        public nint X;
        public nint Mean;
        public nint Rstd;
        public nint Dw;
        public nint Db;
        public long Rows;
        public long ChunkRows;
        public int Columns;
    }
}
