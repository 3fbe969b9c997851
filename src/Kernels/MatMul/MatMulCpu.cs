using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>The product of tensors on the CPU: strides and dtypes taken off the tensors for <see cref="CpuGemm"/>.</summary>
internal static unsafe class MatMulCpu
{
    public static void Run(
        Tensor a, bool transA, Tensor b, bool transB, Tensor c, int m, int n, int k, float alpha, float beta)
    {
        bool batched = a.Shape.Rank == 3;
        int batch = batched ? a.Shape[0] : 1;
        long strideA = batched ? a.Strides[0] : 0;
        long strideB = batched ? b.Strides[0] : 0;
        long strideC = batched ? c.Strides[0] : 0;
        if (a.DType == DType.F64)
        {
            CpuGemm.RunBatched(
                batch, transA, transB, m, n, k, alpha, (double*)a.Pointer, RowStride(a), strideA, (double*)b.Pointer, RowStride(b), strideB, beta, (double*)c.Pointer, RowStride(c), strideC);
        }
        else
        {
            CpuGemm.RunMixedBatched(
                batch, transA, transB, m, n, k, alpha, a.DType, (void*)a.Pointer, RowStride(a), strideA, b.DType, (void*)b.Pointer, RowStride(b), strideB, beta, c.DType, (void*)c.Pointer, RowStride(c), strideC);
        }
    }

    // A single row may carry any stride; the product only asks that it is no shorter than the row.
    private static long RowStride(Tensor tensor)
    {
        if (tensor.Shape[^1] > 1 && tensor.Strides[^1] != 1)
        {
            Check.Throw("MatMul.Run", "operand", "has to have a contiguous last dimension", tensor);
        }

        return Math.Max(tensor.Strides[^2], tensor.Shape[^1]);
    }
}
