using Engine.Tensors;

namespace Engine.Kernels.Gemm;

/// <summary>
/// A product ready to run: cuBLASLt's descriptors and an algorithm. cuBLASLt thinks in columns: the row-major
/// C = op(A)·op(B) is its Cᵀ = op(B)ᵀ·op(A)ᵀ, so A and B change places.
/// </summary>
internal sealed unsafe class GemmPlan : IDisposable
{
    private readonly nint _desc;
    private readonly nint _a;
    private readonly nint _b;
    private readonly nint _c;

    public GemmPlan(in GemmProblem p)
    {
        Problem = p;
        Name = $"gemm {p.Type.Name()} {(p.TransA ? 'T' : 'N')}{(p.TransB ? 'T' : 'N')} {p.M}x{p.N}x{p.K}{(p.Batch == 1 ? "" : $"x{p.Batch}")}";
        nint handle;
        CudaBlas.Check(CublasLt.cublasLtMatmulDescCreate(&handle, p.Tf32 ? CublasLt.Compute32FFastTf32 : CublasLt.Compute32F, TypeOf(DType.F32)));
        _desc = handle;
        Set(CublasLt.Desc.TransA, p.TransB ? 1 : 0);
        Set(CublasLt.Desc.TransB, p.TransA ? 1 : 0);
        Set(CublasLt.Desc.Epilogue, (int)p.Epilogue);
        if (p.Epilogue == GemmEpilogue.GeluGradient)
        {
            Set(CublasLt.Desc.EpilogueAuxStride, p.StrideOperand);
        }

        _b = Layout(p.Type, p.TransB ? p.K : p.N, p.TransB ? p.N : p.K, p.StrideB, p.Batch, p.BatchStrideB);
        _a = Layout(p.Type, p.TransA ? p.M : p.K, p.TransA ? p.K : p.M, p.StrideA, p.Batch, p.BatchStrideA);
        _c = Layout(p.ResultType, p.N, p.M, p.StrideC, p.Batch, p.BatchStrideC);
    }

    public GemmProblem Problem { get; }

    /// <summary>For profiles.</summary>
    public string Name { get; }

    /// <summary>The chosen algorithm.</summary>
    public GemmAlgorithm Algorithm { get; set; }

    /// <summary>The heuristic's candidates, best first.</summary>
    public GemmCandidate[] Candidates(nint handle, long workspaceBytes, int most)
    {
        nint preference;
        CudaBlas.Check(CublasLt.cublasLtMatmulPreferenceCreate(&preference));
        try
        {
            Prefer(preference, CublasLt.Preference.MaxWorkspaceBytes, (ulong)workspaceBytes);
            Prefer(preference, CublasLt.Preference.ReductionSchemeMask, CublasLt.PreciseReductions);
            Prefer(preference, CublasLt.Preference.MinAlignmentA, (uint)Problem.AlignB);
            Prefer(preference, CublasLt.Preference.MinAlignmentB, (uint)Problem.AlignA);
            Prefer(preference, CublasLt.Preference.MinAlignmentC, (uint)Problem.AlignC);
            Prefer(preference, CublasLt.Preference.MinAlignmentD, (uint)Problem.AlignC);
            var results = new GemmCandidate[most];
            int returned = 0;
            fixed (GemmCandidate* first = results)
            {
                int status = CublasLt.cublasLtMatmulAlgoGetHeuristic(handle, _desc, _b, _a, _c, _c, preference, most, first, &returned);
                if (status == CublasLt.NotSupported)
                {
                    return [];
                }

                CudaBlas.Check(status, Name);
            }

            return [.. results.Take(returned).Where(static r => r.State == CublasLt.Success)];
        }
        finally
        {
            _ = CublasLt.cublasLtMatmulPreferenceDestroy(preference);
        }
    }

    /// <summary>Queues the product, with the epilogue's bias or matrix; returns the library's status.</summary>
    public int Launch(
        nint handle, in GemmAlgorithm algorithm, void* a, void* b, void* c, void* operand, float alpha, float beta, void* workspace,
        long workspaceBytes, Engine.Tensors.Cuda.Interop.CUstream stream)
    {
        if (Problem.Epilogue != GemmEpilogue.None)
        {
            CublasLt.Desc pointer = Problem.Epilogue == GemmEpilogue.Bias ? CublasLt.Desc.BiasPointer : CublasLt.Desc.EpilogueAuxPointer;
            CudaBlas.Check(CublasLt.cublasLtMatmulDescSetAttribute(_desc, pointer, &operand, (nuint)sizeof(void*)));
        }

        GemmAlgorithm copy = algorithm;
        return CublasLt.cublasLtMatmul(
            handle, _desc, &alpha, b, _b, a, _a, &beta, c, _c, c, _c, &copy, workspace, (nuint)workspaceBytes, stream);
    }

    public void Dispose()
    {
        _ = CublasLt.cublasLtMatmulDescDestroy(_desc);
        _ = CublasLt.cublasLtMatrixLayoutDestroy(_a);
        _ = CublasLt.cublasLtMatrixLayoutDestroy(_b);
        _ = CublasLt.cublasLtMatrixLayoutDestroy(_c);
    }

    // cudaDataType: CUDA_R_32F, CUDA_R_16F, CUDA_R_16BF.
    private static int TypeOf(DType dtype) => dtype switch
    {
        DType.F32 => 0,
        DType.F16 => 2,
        DType.BF16 => 14,
        _ => throw new NotSupportedException($"matrix products on CUDA are f32, bf16 or f16, not {dtype.Name()}"),
    };

    private static void Prefer<T>(nint preference, CublasLt.Preference attribute, T value)
        where T : unmanaged => CudaBlas.Check(CublasLt.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, (nuint)sizeof(T)));

    private static nint Layout(DType dtype, int rows, int columns, long stride, int batch, long batchStride)
    {
        nint layout;
        CudaBlas.Check(CublasLt.cublasLtMatrixLayoutCreate(&layout, TypeOf(dtype), (ulong)rows, (ulong)columns, stride));
        if (batch > 1)
        {
            CudaBlas.Check(CublasLt.cublasLtMatrixLayoutSetAttribute(layout, CublasLt.Layout.BatchCount, &batch, sizeof(int)));
            CudaBlas.Check(CublasLt.cublasLtMatrixLayoutSetAttribute(layout, CublasLt.Layout.StridedBatchOffset, &batchStride, sizeof(long)));
        }

        return layout;
    }

    private void Set<T>(CublasLt.Desc attribute, T value)
        where T : unmanaged => CudaBlas.Check(CublasLt.cublasLtMatmulDescSetAttribute(_desc, attribute, &value, (nuint)sizeof(T)));
}
