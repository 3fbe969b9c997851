using System.Runtime.InteropServices;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

internal static class ElementwiseCuda
{
    private static readonly KernelFamily<Params> s_add = new("elementwise", "elementwise_add");
    private static readonly KernelFamily<Params> s_multiply = new("elementwise", "elementwise_multiply");
    private static readonly KernelFamily<Params> s_scale = new("elementwise", "elementwise_scale");
    private static readonly KernelFamily<Params> s_addScaled = new("elementwise", "elementwise_addscaled");
    private static readonly KernelFamily<ColumnParams> s_addBias = new("elementwise", "elementwise_addbias");
    private static readonly KernelFamily<ColumnParams> s_scaleColumns = new("elementwise", "elementwise_scalecolumns");
    private static readonly KernelFamily<GradientParams> s_biasGradient = new("elementwise", "elementwise_biasgrad");
    private static readonly ColumnSumsCuda s_biasSum = new("elementwise", "elementwise_biasgrad_sum");

    public static void Add(Tensor a, Tensor b, Tensor y) => Run(s_add, a, b, y, 1, 3);

    public static void Multiply(Tensor a, Tensor b, Tensor y) => Run(s_multiply, a, b, y, 1, 3);

    public static void Scale(Tensor x, float s, Tensor y) => Run(s_scale, x, x, y, s, 2);

    public static void AddScaled(Tensor y, Tensor x, float s) => Run(s_addScaled, y, x, y, s, 3);

    public static void AddBias(Tensor x, Tensor bias) => WithColumns(s_addBias, x, bias, x);

    public static void ScaleColumns(Tensor x, Tensor s, Tensor y) => WithColumns(s_scaleColumns, x, s, y);

    public static void BiasGradient(Tensor dy, Tensor dBias)
    {
        if (dy.Elements == 0)
        {
            return;
        }

        int columns = Check.Columns(dy);
        long rows = Check.Rows(dy);
        (int chunks, long chunkRows) = CudaLaunch.RowChunks(rows);
        using Tensor partials = Tensor.Empty([chunks, columns], DType.F32, dy.Device);
        s_biasGradient.Launch(
            dy.Device,
            dy.DType,
            new LaunchShape((uint)CudaLaunch.CeilDiv(columns, 32), (uint)chunks, 1, 256),
            new GradientParams
            {
                Dy = dy.Pointer,
                Partial = partials.Pointer,
                Stride = Check.RowStride(dy),
                Rows = rows,
                ChunkRows = chunkRows,
                Columns = columns,
            },
            new KernelWork(dy.ByteLength + partials.ByteLength, dy.Elements));
        s_biasSum.AddTo(partials, chunks, columns, dBias);
    }

    private static void Run(KernelFamily<Params> family, Tensor a, Tensor b, Tensor y, float s, int passes)
    {
        (long rows, long columns, bool vectors) = CudaLaunch.Rows(a, b, y);
        family.Launch(
            y.Device,
            y.DType,
            CudaLaunch.Elements(y.Elements, y.DType, vectors),
            new Params
            {
                A = a.Pointer,
                B = b.Pointer,
                Y = y.Pointer,
                Count = y.Elements,
                Rows = rows,
                Columns = columns,
                AStride = CudaLaunch.RowStride(a),
                BStride = CudaLaunch.RowStride(b),
                YStride = CudaLaunch.RowStride(y),
                S = s,
                BType = KernelTypes.Code("elementwise", b),
                Vectors = vectors ? 1 : 0,
            },
            new KernelWork(passes * y.ByteLength, y.Elements));
    }

    private static void WithColumns(KernelFamily<ColumnParams> family, Tensor x, Tensor columnValues, Tensor y)
    {
        int columns = Check.Columns(x);
        if (x.Elements == 0)
        {
            return;
        }

        bool vectors = CudaLaunch.AlignedRows(x, columns) && CudaLaunch.AlignedRows(y, columns) && CudaLaunch.Aligned(columnValues.Pointer) &&
            Check.RowStride(x) * x.DType.Size() % 16 == 0 && Check.RowStride(y) * y.DType.Size() % 16 == 0;
        long rows = Check.Rows(x);
        family.Launch(
            x.Device,
            x.DType,
            LaunchShape.Blocks(Math.Min(rows, 1 << 20), CudaLaunch.ThreadsFor(vectors ? columns * x.DType.Size() / 16 : columns)),
            new ColumnParams
            {
                X = x.Pointer,
                B = columnValues.Pointer,
                Y = y.Pointer,
                XStride = Check.RowStride(x),
                YStride = Check.RowStride(y),
                Rows = rows,
                Columns = columns,
                BType = KernelTypes.Code("elementwise", columnValues),
                Vectors = vectors ? 1 : 0,
            },
            new KernelWork((2 * x.ByteLength) + columnValues.ByteLength, x.Elements));
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Params
    {
        public nint A;
        public nint B;
        public nint Y;
        public long Count;
        public long Rows;
        public long Columns;
        public long AStride;
        public long BStride;
        public long YStride;
        public float S;
        public int BType;
        public int Vectors;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ColumnParams
    {
        public nint X;
        public nint B;
        public nint Y;
        public long XStride;
        public long YStride;
        public long Rows;
        public int Columns;
        public int BType;
        public int Vectors;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct GradientParams
    {
        public nint Dy;
        public nint Partial;
        public long Stride;
        public long Rows;
        public long ChunkRows;
        public int Columns;
    }
}
