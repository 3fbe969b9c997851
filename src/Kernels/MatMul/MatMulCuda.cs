using Engine.Kernels.Cuda;
using Engine.Kernels.Gemm;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels;

/// <summary>
/// Matrix products on CUDA. Operands of one dtype with a result of that dtype or f32 go to cuBLASLt as they are. Anything
/// else (dtypes that differ, addresses or strides the library has no kernel for) is first copied to f32 or to aligned memory.
/// </summary>
internal static class MatMulCuda
{
    // The library's fast kernels for 16-bit operands want extents that are multiples of 8; a large one that is not (a vocabulary
    // of 50,257) makes it choose kernels at a seventh of the speed. Such a product runs as two: up to a multiple of 64, and the rest.
    private const int SplitUnit = 64;
    private const int LeastSplit = 2048;

    /// <summary>The arguments have been checked; a bias [n] is added to every row.</summary>
    public static void Run(Tensor a, bool transA, Tensor b, bool transB, Tensor c, int m, int n, int k, float alpha, float beta, Tensor? bias)
    {
        if (c.Elements == 0)
        {
            return;
        }

        if (k == 0 || alpha == 0)
        {
            Scale(c, beta, bias);
            return;
        }

        if (a.DType is DType.BF16 or DType.F16 && c.Shape.Rank == 2)
        {
            if (IsAwkward(n))
            {
                SplitColumns(a, transA, b, transB, c, alpha, beta, bias, n / SplitUnit * SplitUnit);
                return;
            }

            if (IsAwkward(k) && beta == 0 && bias is null)
            {
                SplitDepth(a, transA, b, transB, c, alpha, k / SplitUnit * SplitUnit);
                return;
            }
        }

        var device = (CudaDevice)c.Device;
        if (bias is not null && !CudaLaunch.Aligned(bias.Pointer))
        {
            // The library's epilogues read 16 bytes at a time.
            using Tensor aligned = bias.EmptyLike();
            Copy.Run(bias, aligned);
            Run(a, transA, b, transB, c, m, n, k, alpha, beta, aligned);
            return;
        }

        bool fits = a.DType == b.DType && (c.DType == a.DType || c.DType == DType.F32) && (bias is null || bias.DType == c.DType);
        if (fits && TryRun(device, a, transA, b, transB, c, m, n, k, alpha, beta, bias))
        {
            return;
        }

        RunOnCopies(device, a, transA, b, transB, c, m, n, k, alpha, beta, bias);
    }

    /// <summary>
    /// c = (a·op(b))∘gelu′(x) with the tanh form, in one pass; false where the library has no kernel for it. The arguments have
    /// been checked: matrices, x like c.
    /// </summary>
    public static bool TryRunGeluGradient(Tensor a, Tensor b, bool transB, Tensor x, Tensor c)
    {
        (int m, int n, int k) = (c.Shape[0], c.Shape[1], a.Shape[1]);
        bool narrow = c.DType is DType.BF16 or DType.F16 && a.DType == c.DType && b.DType == c.DType;
        long strideX = narrow ? RowStride(x) : 0;
        if (!narrow || c.Elements == 0 || k == 0 || IsAwkward(n) || !CudaLaunch.Aligned(x.Pointer) || strideX % 8 != 0)
        {
            return false;
        }

        var problem = new GemmProblem(
            m, n, k, 1, false, transB, a.DType, c.DType, RowStride(a), RowStride(b), RowStride(c), 0, 0, 0,
            GemmProblem.AlignmentOf(a.Pointer), GemmProblem.AlignmentOf(b.Pointer), GemmProblem.AlignmentOf(c.Pointer),
            GemmEpilogue.GeluGradient, Tf32: false, strideX);
        return CudaBlas.Of((CudaDevice)c.Device).TryRun(in problem, a.Pointer, b.Pointer, c.Pointer, x.Pointer, 1, 0);
    }

    private static bool IsAwkward(int extent) => extent >= LeastSplit && extent % 8 != 0;

    private static void SplitColumns(
        Tensor a, bool transA, Tensor b, bool transB, Tensor c, float alpha, float beta, Tensor? bias, int at)
    {
        int columns = c.Shape[1];
        foreach ((int start, int count) in new[] { (0, at), (at, columns - at) })
        {
            using Tensor part = b.Slice(transB ? 0 : 1, start, count);
            using Tensor result = c.Slice(1, start, count);
            using Tensor? biasPart = bias?.Slice(0, start, count);
            MatMul.Run(a, transA, part, transB, result, alpha, beta, biasPart);
        }
    }

    private static void SplitDepth(Tensor a, bool transA, Tensor b, bool transB, Tensor c, float alpha, int at)
    {
        int depth = a.Shape[transA ? 0 : 1];

        // In f32: the library may round a narrow product before it adds what the result held.
        using Tensor sum = Tensor.Empty(c.Shape, DType.F32, c.Device);
        foreach ((int start, int count) in new[] { (at, depth - at), (0, at) })
        {
            using Tensor left = a.Slice(transA ? 0 : 1, start, count);
            using Tensor right = b.Slice(transB ? 1 : 0, start, count);
            MatMul.Run(left, transA, right, transB, sum, alpha, start == 0 ? 1 : 0);
        }

        Convert(sum, c);
    }

    private static bool TryRun(
        CudaDevice device, Tensor a, bool transA, Tensor b, bool transB, Tensor c, int m, int n, int k, float alpha, float beta, Tensor? bias)
    {
        int batch = c.Shape.Rank == 3 ? c.Shape[0] : 1;
        CudaBlas blas = CudaBlas.Of(device);
        var problem = new GemmProblem(
            m, n, k, batch, transA, transB, a.DType, c.DType, RowStride(a), RowStride(b), RowStride(c), BatchStride(a), BatchStride(b), BatchStride(c),
            GemmProblem.AlignmentOf(a.Pointer), GemmProblem.AlignmentOf(b.Pointer), GemmProblem.AlignmentOf(c.Pointer),
            bias is null ? GemmEpilogue.None : GemmEpilogue.Bias, blas.UsesTf32 && a.DType == DType.F32);
        return blas.TryRun(in problem, a.Pointer, b.Pointer, c.Pointer, bias?.Pointer ?? 0, alpha, beta);
    }

    private static void RunOnCopies(
        CudaDevice device, Tensor a, bool transA, Tensor b, bool transB, Tensor c, int m, int n, int k, float alpha, float beta, Tensor? bias)
    {
        DType type = a.DType == b.DType && (c.DType == a.DType || c.DType == DType.F32) ? a.DType : DType.F32;
        using Tensor ac = AlignedCopy(a, type);
        using Tensor bc = AlignedCopy(b, type);
        using Tensor cc = Padded(c.Shape, type == a.DType && type == b.DType ? c.DType : DType.F32, device);
        if (beta != 0)
        {
            Convert(c, cc);
        }

        using Tensor? biasCopy = bias is null ? null : Tensor.Empty(bias.Shape, cc.DType, device);
        if (bias is not null)
        {
            Convert(bias, biasCopy!);
        }

        if (!TryRun(device, ac, transA, bc, transB, cc, m, n, k, alpha, beta, biasCopy))
        {
            throw new NotSupportedException($"cuBLASLt has no algorithm for {(transA ? "transposed " : "")}{a} by {(transB ? "transposed " : "")}{b} into {c}");
        }

        Convert(cc, c);
    }

    private static void Scale(Tensor c, float beta, Tensor? bias)
    {
        if (beta == 1 && bias is null)
        {
            return;
        }

        using Tensor dense = Tensor.Empty(c.Shape, c.DType, c.Device);
        if (beta == 0)
        {
            dense.Clear();
        }
        else
        {
            Copy.Run(c, dense);
            Elementwise.Scale(dense, beta, dense);
        }

        if (bias is not null)
        {
            Elementwise.AddBias(dense, bias);
        }

        Copy.Run(dense, c);
    }

    // Rows at multiples of 16 bytes, which the library always has kernels for.
    private static Tensor Padded(Shape shape, DType dtype, CudaDevice device)
    {
        int unit = 16 / dtype.Size();
        int width = (shape[^1] + unit - 1) / unit * unit;
        using Tensor whole = Tensor.Empty(shape.With(shape.Rank - 1, width), dtype, device);
        return whole.Slice(^1, 0, shape[^1]);
    }

    private static Tensor AlignedCopy(Tensor x, DType dtype)
    {
        Tensor copy = Padded(x.Shape, dtype, (CudaDevice)x.Device);
        Convert(x, copy);
        return copy;
    }

    // y = x in y's dtype, whatever the strides.
    private static void Convert(Tensor x, Tensor y)
    {
        if (x.DType == y.DType)
        {
            Copy.Run(x, y);
            return;
        }

        using Tensor dense = x.IsContiguous ? x.Share() : Tensor.Empty(x.Shape, x.DType, x.Device);
        if (!x.IsContiguous)
        {
            Copy.Run(x, dense);
        }

        using Tensor converted = y.IsContiguous ? y.Share() : Tensor.Empty(y.Shape, y.DType, y.Device);
        Cast.Run(dense, converted);
        if (!y.IsContiguous)
        {
            Copy.Run(converted, y);
        }
    }

    // The product only asks that a row's stride is no shorter than the row; a single row may carry any.
    private static long RowStride(Tensor tensor)
    {
        if (tensor.Shape[^1] > 1 && tensor.Strides[^1] != 1)
        {
            Check.Throw("MatMul.Run", "operand", "has to have a contiguous last dimension", tensor);
        }

        if (tensor.Shape[^2] > 1 && tensor.Strides[^2] < tensor.Shape[^1])
        {
            Check.Throw("MatMul.Run", "operand", "has to have rows that do not overlap", tensor);
        }

        return Math.Max(tensor.Strides[^2], tensor.Shape[^1]);
    }

    private static long BatchStride(Tensor tensor) => tensor.Shape.Rank == 3 ? tensor.Strides[0] : 0;
}
