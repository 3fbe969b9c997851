using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Engine.Tensors.Cuda;
using Engine.Tensors.Cuda.Interop;

[assembly: DisableRuntimeMarshalling]

namespace Engine.Kernels.Gemm;

/// <summary>The functions of cuBLASLt in use, as its header (12 and 13) declares them.</summary>
internal static unsafe partial class CublasLt
{
    public const string Library = "cublasLt";

    public const int Success = 0;
    public const int ExecutionFailed = 13;
    public const int NotSupported = 15;

    /// <summary>CUBLAS_COMPUTE_32F: full f32 arithmetic for f32 operands, f32 accumulation for narrow ones.</summary>
    public const int Compute32F = 68;

    /// <summary>CUBLAS_COMPUTE_32F_FAST_TF32: f32 operands are rounded to TF32.</summary>
    public const int Compute32FFastTf32 = 77;

    /// <summary>
    /// CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE: a sum over parts of the depth is formed in f32 and rounded once. The schemes left
    /// out form it in the result's dtype, one of them in any order.
    /// </summary>
    public const uint PreciseReductions = 2;

    /// <summary>Attributes of a product.</summary>
    public enum Desc
    {
        TransA = 3,
        TransB = 4,
        Epilogue = 7,
        BiasPointer = 8,
        EpilogueAuxPointer = 11,
        EpilogueAuxStride = 12,
    }

    /// <summary>Attributes of a matrix.</summary>
    public enum Layout
    {
        BatchCount = 5,
        StridedBatchOffset = 6,
    }

    /// <summary>Attributes of a search for algorithms.</summary>
    public enum Preference
    {
        MaxWorkspaceBytes = 1,
        ReductionSchemeMask = 3,
        MinAlignmentA = 5,
        MinAlignmentB = 6,
        MinAlignmentC = 7,
        MinAlignmentD = 8,
    }

    // Whoever comes here has asked CudaLibraries first, so that a missing library has been explained.
    static CublasLt() => NativeLibrary.SetDllImportResolver(typeof(CublasLt).Assembly, CudaLibraries.Resolve);

    [LibraryImport(Library)]
    public static partial nuint cublasLtGetVersion();

    [LibraryImport(Library)]
    public static partial byte* cublasLtGetStatusString(int status);

    [LibraryImport(Library)]
    public static partial int cublasLtCreate(nint* handle);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulDescCreate(nint* desc, int computeType, int scaleType);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulDescDestroy(nint desc);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulDescSetAttribute(nint desc, Desc attribute, void* value, nuint bytes);

    [LibraryImport(Library)]
    public static partial int cublasLtMatrixLayoutCreate(nint* layout, int type, ulong rows, ulong columns, long ld);

    [LibraryImport(Library)]
    public static partial int cublasLtMatrixLayoutDestroy(nint layout);

    [LibraryImport(Library)]
    public static partial int cublasLtMatrixLayoutSetAttribute(nint layout, Layout attribute, void* value, nuint bytes);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulPreferenceCreate(nint* preference);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulPreferenceDestroy(nint preference);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulPreferenceSetAttribute(nint preference, Preference attribute, void* value, nuint bytes);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmulAlgoGetHeuristic(
        nint handle, nint desc, nint a, nint b, nint c, nint d, nint preference, int requested, GemmCandidate* results, int* returned);

    [LibraryImport(Library)]
    public static partial int cublasLtMatmul(
        nint handle, nint desc, void* alpha, void* a, nint layoutA, void* b, nint layoutB, void* beta, void* c, nint layoutC, void* d,
        nint layoutD, GemmAlgorithm* algorithm, void* workspace, nuint workspaceBytes, CUstream stream);
}

/// <summary>An algorithm with its configuration (<c>cublasLtMatmulAlgo_t</c>): 64 opaque bytes, valid for one version of the library.</summary>
[InlineArray(8)]
internal struct GemmAlgorithm
{
    private ulong _first;
}

/// <summary>One answer of the heuristic (<c>cublasLtMatmulHeuristicResult_t</c>).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct GemmCandidate
{
    public GemmAlgorithm Algorithm;
    public nuint WorkspaceBytes;
    public int State;
    public float Waves;
    public int Reserved0;
    public int Reserved1;
    public int Reserved2;
    public int Reserved3;
}
