using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>A matrix product [m,k]·[k,n] in one dtype.</summary>
/// <param name="M">Rows of the result.</param>
/// <param name="N">Columns of the result.</param>
/// <param name="K">Inner dimension.</param>
/// <param name="DType">Dtype of all three matrices.</param>
public sealed record MatMulCase(int M, int N, int K, DType DType) : OpCase
{
    /// <inheritdoc/>
    public override string Name => $"MatMul[{M}, {N}, {K}]";

    /// <inheritdoc/>
    public override long Bytes => DType.Size() * (((long)M * K) + ((long)K * N) + ((long)M * N));

    /// <inheritdoc/>
    public override long Flops => 2L * M * N * K;

    /// <inheritdoc/>
    public override ErrorBound Error(DType dtype) => ErrorBound.Roundings(
        dtype, K + 34 + (K / 384.0), "a chain of K fused multiply-adds and the sums of its parts, see CpuGemm; S = Σ|a||b|");
}
