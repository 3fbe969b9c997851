using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels.Tests.Cuda;

/// <summary>Which kernels attention takes on a GPU; that they are right is shown in <see cref="AttentionTests"/>.</summary>
[Collection(nameof(CudaCollection))]
public sealed class AttentionKernelsTests
{
    private readonly CudaDevice _device = RequireCuda.Device();

    /// <summary>Warpgroup products where the image has them, the head dimension suits and rows are aligned; else a warp's own.</summary>
    [Theory]
    [InlineData(64, 64)]
    [InlineData(40, 64)]
    [InlineData(128, 128)]
    [InlineData(32, null)]
    [InlineData(80, null)]
    [InlineData(256, null)]
    public void Aligned_heads_take_warpgroup_products_where_there_are_any(int dimension, int? instance)
    {
        bool has = KernelImages.Choose("attention", _device.Context.ComputeCapability).Contains(".sm_90a.", StringComparison.Ordinal);
        string[] expected = has && instance is { } d
            ? [$"attention_fwd_wgmma_d{d}_bf16", $"attention_bwd_q_wgmma_d{d}_bf16", $"attention_bwd_kv_wgmma_d{d}_bf16"]
            : [];
        Assert.Equal(expected, Launched(dimension, rowGap: 0).Where(static name => name.Contains("_wgmma_", StringComparison.Ordinal)));

        // A row that begins at no multiple of 16 bytes is for the others.
        string[] unaligned = Launched(dimension, rowGap: 1);
        Assert.Equal(3, unaligned.Length);
        Assert.DoesNotContain(unaligned, static name => name.Contains("_wgmma_", StringComparison.Ordinal));
    }

    // The kernels of a forward and a backward pass over 2 heads of 70 tokens.
    private string[] Launched(int dimension, int rowGap)
    {
        const int Tokens = 70, Heads = 2;
        using Tensor buffer = Tensor.Zeros([1, Tokens, 3 * Heads, dimension + rowGap], DType.BF16, _device);
        using Tensor all = buffer.Slice(3, 0, dimension);
        using Tensor q = all.Slice(2, 0, Heads);
        using Tensor k = all.Slice(2, Heads, Heads);
        using Tensor v = all.Slice(2, 2 * Heads, Heads);
        using Tensor start = Tensor.Zeros([1, Tokens], DType.I32, _device);
        using Tensor o = Tensor.Zeros([1, Tokens, Heads, dimension], DType.BF16, _device);
        using Tensor lse = Tensor.Zeros([1, Heads, Tokens], DType.F32, _device);
        using Tensor dq = o.ZerosLike();
        using Tensor dk = o.ZerosLike();
        using Tensor dv = o.ZerosLike();
        using var profiler = new CudaProfiler(_device);
        Attention.Forward(q, k, v, start, 0, 0.1f, o, lse);
        Attention.Backward(o, q, k, v, o, lse, start, 0.1f, dq, dk, dv);
        return [.. profiler.Collect().Select(static s => s.Kernel).Where(static name => name.StartsWith("attention", StringComparison.Ordinal))];
    }
}
