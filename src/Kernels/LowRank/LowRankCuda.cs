using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// The low-rank path on CUDA: products of the library in the activations' dtype with fp32 accumulation. A, B and s are
/// converted to that dtype where theirs differs (they are small); between the products s and ds are rounded to it.
/// </summary>
internal static partial class LowRankCuda
{
    /// <summary>The arguments have been checked; <paramref name="s"/> may be absent.</summary>
    public static void Forward(Tensor x, Tensor a, Tensor b, float scale, Tensor y, Tensor? s)
    {
        using Tensor input = Matrix(x);
        using Tensor output = Matrix(y);
        ForwardRows(input, a, b, scale, output, s);
    }

    /// <summary>The arguments have been checked; gradients may be absent.</summary>
    public static void Backward(
        Tensor dy, Tensor x, Tensor a, Tensor b, Tensor s, float scale, Tensor? dx, Tensor? dA, Tensor? dB, bool setX = false)
    {
        using Tensor gradient = Matrix(dy);
        using Tensor input = Matrix(x);
        int rank = a.Shape[0];
        if (input.Shape[0] == 0 || rank == 0)
        {
            if (setX)
            {
                dx?.Clear();
            }

            return;
        }

        if (dB is not null)
        {
            using Tensor saved = As(s, dy.DType);
            Accumulate(gradient, true, saved, false, dB);
        }

        if (dx is null && dA is null)
        {
            return;
        }

        using Tensor up = As(b, dy.DType);
        using Tensor exact = Tensor.Empty([input.Shape[0], rank], dy.DType == x.DType ? x.DType : DType.F32, x.Device);
        MatMul.Run(gradient, false, up, false, exact, scale, 0);
        using Tensor ds = As(exact, x.DType);
        if (dx is not null)
        {
            using Tensor down = As(a, x.DType);
            Accumulate(ds, false, down, false, dx, setX ? 0 : 1);
        }

        if (dA is not null)
        {
            Accumulate(ds, true, input, false, dA);
        }
    }

    private static void ForwardRows(Tensor x, Tensor a, Tensor b, float scale, Tensor y, Tensor? s)
    {
        if (x.Shape[0] == 0 || a.Shape[0] == 0)
        {
            return;
        }

        using Tensor up = As(b, x.DType);
        using Tensor low = Down(x, a, scale, s);
        Accumulate(low, false, up, true, y);
    }

    // scale·x·Aᵀ in x's dtype; also in s where that is given, from f32 where its dtype is another.
    private static Tensor Down(Tensor x, Tensor a, float scale, Tensor? s)
    {
        DType dtype = s is null || s.DType == x.DType ? x.DType : DType.F32;
        using Tensor down = As(a, x.DType);
        using Tensor exact = s?.DType == dtype ? Matrix(s) : Tensor.Empty([x.Shape[0], a.Shape[0]], dtype, x.Device);
        MatMul.Run(x, false, down, true, exact, scale, 0);
        if (s is not null && s.DType != dtype)
        {
            Store(exact, s);
        }

        return As(exact, x.DType);
    }

    // c = beta·c + op(a)·op(b) for a and b of one dtype. The product writes that dtype or f32; another one takes a detour.
    private static void Accumulate(Tensor a, bool transA, Tensor b, bool transB, Tensor c, float beta = 1)
    {
        if (c.DType == a.DType || c.DType == DType.F32)
        {
            using Tensor matrix = Matrix(c);
            MatMul.Run(a, transA, b, transB, matrix, 1, beta);
            return;
        }

        using Tensor sum = As(c, DType.F32);
        MatMul.Run(a, transA, b, transB, sum, 1, beta);
        Store(sum, c);
    }

    private static Tensor Matrix(Tensor tensor) => RowMatrix.View("LowRank", tensor);

    // The matrix in a dtype: another share of it, or a converted copy without gaps.
    private static Tensor As(Tensor tensor, DType dtype)
    {
        Tensor matrix = Matrix(tensor);
        if (matrix.DType == dtype)
        {
            return matrix;
        }

        using (matrix)
        {
            Tensor result = Tensor.Empty(matrix.Shape, dtype, matrix.Device);
            if (matrix.IsContiguous)
            {
                Cast.Run(matrix, result);
                return result;
            }

            using Tensor dense = matrix.EmptyLike();
            Copy.Run(matrix, dense);
            Cast.Run(dense, result);
            return result;
        }
    }

    // target = source in the target's dtype.
    private static void Store(Tensor source, Tensor target)
    {
        using Tensor matrix = Matrix(target);
        if (matrix.IsContiguous)
        {
            Cast.Run(source, matrix);
            return;
        }

        using Tensor dense = matrix.EmptyLike();
        Cast.Run(source, dense);
        Copy.Run(dense, matrix);
    }
}
