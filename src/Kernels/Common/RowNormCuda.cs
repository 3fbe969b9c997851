using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>Launches the kernels of RMSNorm and LayerNorm (<c>common/rownorm.cuh</c>).</summary>
internal sealed class RowNormCuda(string op)
{
    private readonly KernelFamily<ForwardParams> _forward = new(op, op + "_fwd");
    private readonly KernelFamily<BackwardParams> _backward = new(op, op + "_bwd");
    private readonly KernelFamily<WeightParams> _weight = new(op, op + "_dw");
    private readonly ColumnSumsCuda _sum = new(op, op + "_dw_sum");

    public void Forward(Tensor x, Tensor w, Tensor? b, float eps, Tensor y, Tensor? mean, Tensor? rstd)
    {
        int columns = Check.Columns(x);
        if (x.Elements == 0)
        {
            return;
        }

        bool vectors = CudaLaunch.AlignedRows(x, columns) && AlignedStrides(y, columns) &&
            CudaLaunch.Aligned(w.Pointer) && CudaLaunch.Aligned(CudaLaunch.PointerOf(b));
        _forward.Launch(
            x.Device,
            x.DType,
            Shape(x, columns, vectors),
            new ForwardParams
            {
                X = x.Pointer,
                W = w.Pointer,
                B = CudaLaunch.PointerOf(b),
                Y = y.Pointer,
                Mean = CudaLaunch.PointerOf(mean),
                Rstd = CudaLaunch.PointerOf(rstd),
                YStride = Check.RowStride(y),
                Columns = columns,
                WType = KernelTypes.Code(op, w),
                BType = b is null ? 0 : KernelTypes.Code(op, b),
                Eps = eps,
                Vectors = vectors ? 1 : 0,
            },
            new KernelWork((2 * x.ByteLength) + w.ByteLength + (rstd?.ByteLength ?? 0), 4 * x.Elements));
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
        bool vectors = CudaLaunch.AlignedRows(x, columns) && CudaLaunch.AlignedRows(dy, columns) &&
            AlignedStrides(dx, columns) && CudaLaunch.Aligned(w.Pointer);
        _backward.Launch(
            x.Device,
            x.DType,
            Shape(x, columns, vectors),
            new BackwardParams
            {
                Dy = dy.Pointer,
                X = x.Pointer,
                W = w.Pointer,
                Mean = CudaLaunch.PointerOf(mean),
                Rstd = rstd.Pointer,
                Dx = dx.Pointer,
                DxStride = Check.RowStride(dx),
                Columns = columns,
                WType = KernelTypes.Code(op, w),
                Accumulate = addX ? 1 : 0,
                Vectors = vectors ? 1 : 0,
            },
            new KernelWork(((addX ? 4 : 3) * x.ByteLength) + w.ByteLength + rstd.ByteLength, 10 * x.Elements));
    }

    private static bool AlignedStrides(Tensor tensor, int columns) =>
        CudaLaunch.AlignedRows(tensor, columns) && Check.RowStride(tensor) * tensor.DType.Size() % 16 == 0;

    private static LaunchShape Shape(Tensor x, int columns, bool vectors) => LaunchShape.Blocks(
        Check.Rows(x), CudaLaunch.ThreadsFor(vectors ? columns * x.DType.Size() / 16 : columns));

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
        public nint Y;
        public nint Mean;
        public nint Rstd;
        public long YStride;
        public int Columns;
        public int WType;
        public int BType;
        public float Eps;
        public int Vectors;
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
        public long DxStride;
        public int Columns;
        public int WType;
        public int Accumulate;
        public int Vectors;
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
