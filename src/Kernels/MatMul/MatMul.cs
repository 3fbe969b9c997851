using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Matrix product C = alpha·op(A)·op(B) + beta·C. Rank 2, or rank 3 with a leading batch dimension. The last dimension is
/// contiguous, row strides are free. Storage dtypes may differ among f32, bf16 and f16 (computed in f32); f64 goes with f64.
/// </summary>
public static class MatMul
{
    /// <summary>
    /// The dtype in which a temporary operand of a product with <paramref name="x"/> is best held: products of mixed dtypes
    /// are free on the CPU, which converts anyway, so that an intermediate result keeps full precision there; on a GPU both
    /// operands of a fast product have x's dtype.
    /// </summary>
    public static DType OperandType(Tensor x)
    {
        ArgumentNullException.ThrowIfNull(x);
        return x.Device.Kind == DeviceKind.Cpu ? Check.Statistics(x.DType) : x.DType;
    }

    /// <summary>Runs the product.</summary>
    /// <param name="a">[m,k], or [k,m] when transposed; with a leading batch dimension if rank 3.</param>
    /// <param name="transA">Use Aᵀ.</param>
    /// <param name="b">[k,n], or [n,k] when transposed.</param>
    /// <param name="transB">Use Bᵀ.</param>
    /// <param name="c">[m,n], the result; not read when <paramref name="beta"/> is 0. Does not overlap A or B.</param>
    /// <param name="alpha">Factor of the product.</param>
    /// <param name="beta">Factor of what C holds.</param>
    /// <param name="bias">[n] of any float dtype, added to every row; null for none.</param>
    /// <exception cref="ArgumentException">Shapes, dtypes, devices or layouts do not fit.</exception>
    public static void Run(
        Tensor a, bool transA, Tensor b, bool transB, Tensor c, float alpha = 1, float beta = 0, Tensor? bias = null)
    {
        const string Op = "MatMul.Run";
        Check.FloatStrided(Op, a);
        Check.FloatStrided(Op, b);
        Check.FloatStrided(Op, c);
        Check.SameDevice(Op, b, a);
        Check.SameDevice(Op, c, a);
        int rank = a.Shape.Rank;
        if (rank is not (2 or 3))
        {
            Check.Throw(Op, nameof(a), "has to have 2 or 3 dimensions", a);
        }

        Check.Rank(Op, b, rank);
        Check.Rank(Op, c, rank);
        int m = a.Shape[transA ? ^1 : ^2];
        int k = a.Shape[transA ? ^2 : ^1];
        int n = b.Shape[transB ? ^2 : ^1];
        bool doubles = a.DType == DType.F64;
        if (b.Shape[transB ? ^1 : ^2] != k || (rank == 3 && b.Shape[0] != a.Shape[0]) || (b.DType == DType.F64) != doubles)
        {
            Check.Throw(Op, nameof(b), $"does not go with a, {a} {(transA ? "transposed" : "as it is")}", b);
        }

        Shape expected = rank == 2 ? [m, n] : [a.Shape[0], m, n];
        Check.Shaped(Op, c, expected);
        if ((c.DType == DType.F64) != doubles)
        {
            Check.Throw(Op, nameof(c), $"does not go with a, {a}", c);
        }

        if (bias is not null)
        {
            Check.Float(Op, bias);
            Check.Count(Op, bias, n);
            Check.SameDevice(Op, bias, a);
        }

        switch (a.Device.Kind)
        {
            case DeviceKind.Cpu:
                MatMulCpu.Run(a, transA, b, transB, c, m, n, k, alpha, beta);
                if (bias is not null)
                {
                    Elementwise.AddBias(c, bias);
                }

                break;
            case DeviceKind.Cuda:
                MatMulCuda.Run(a, transA, b, transB, c, m, n, k, alpha, beta, bias);
                break;
            default:
                throw DeviceDispatch.Unsupported(Op, a.Device);
        }
    }
}
