using Engine.Tensors;

namespace Engine.Kernels.Gemm;

/// <summary>What a product does to its result on the way out.</summary>
public enum GemmEpilogue
{
    /// <summary>Nothing.</summary>
    None = 1,

    /// <summary>Adds a bias to every row.</summary>
    Bias = 4,

    /// <summary>Multiplies by the derivative of the tanh form of GELU at a matrix like the result.</summary>
    GeluGradient = 192,
}

/// <summary>
/// All that decides how a product C[m,n] = op(A)·op(B) in row-major order is best computed: extents, row strides, dtypes,
/// alignment. The key of a plan.
/// </summary>
/// <param name="M">Rows of C.</param>
/// <param name="N">Columns of C.</param>
/// <param name="K">Inner extent.</param>
/// <param name="Batch">Products side by side.</param>
/// <param name="TransA">A is stored [k,m].</param>
/// <param name="TransB">B is stored [n,k].</param>
/// <param name="Type">Dtype of A and B: f32, bf16 or f16.</param>
/// <param name="ResultType">Dtype of C: f32 or <paramref name="Type"/>.</param>
/// <param name="StrideA">Elements between rows of A.</param>
/// <param name="StrideB">Elements between rows of B.</param>
/// <param name="StrideC">Elements between rows of C.</param>
/// <param name="BatchStrideA">Elements between products' A.</param>
/// <param name="BatchStrideB">Elements between products' B.</param>
/// <param name="BatchStrideC">Elements between products' C.</param>
/// <param name="AlignA">Bytes A's address is a multiple of: 2 to 16.</param>
/// <param name="AlignB">Bytes B's address is a multiple of.</param>
/// <param name="AlignC">Bytes C's address is a multiple of.</param>
/// <param name="Epilogue">What is done to the result.</param>
/// <param name="Tf32">f32 operands may be rounded to TF32.</param>
/// <param name="StrideOperand">Elements between rows of the epilogue's matrix; 0 where it has none.</param>
internal readonly record struct GemmProblem(
    int M, int N, int K, int Batch, bool TransA, bool TransB, DType Type, DType ResultType, long StrideA, long StrideB, long StrideC,
    long BatchStrideA, long BatchStrideB, long BatchStrideC, int AlignA, int AlignB, int AlignC, GemmEpilogue Epilogue, bool Tf32,
    long StrideOperand = 0)
{
    public long Flops => 2L * M * N * K * Batch;

    public long Bytes => Batch * ((((long)M * K) + ((long)K * N)) * Type.Size() + ((long)M * N * ResultType.Size()));

    /// <summary>The name in plans and profiles.</summary>
    public string Text =>
        $"{Type.Name()}>{ResultType.Name()} {(TransA ? 'T' : 'N')}{(TransB ? 'T' : 'N')} {M}x{N}x{K}x{Batch} ld {StrideA},{StrideB},{StrideC}" +
        $" batch {BatchStrideA},{BatchStrideB},{BatchStrideC} align {AlignA},{AlignB},{AlignC} epilogue {(int)Epilogue}{(Tf32 ? " tf32" : "")}{(StrideOperand == 0 ? "" : $" operand {StrideOperand}")}";

    public static int AlignmentOf(nint address) => (int)Math.Min(16, address & -address);
}
