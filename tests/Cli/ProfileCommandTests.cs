using System.Text.Json;
using Engine.Cli.Bench;
using Engine.Cli.Profiling;
using Engine.Tensors.Cuda;

namespace Engine.Cli.Tests;

public class ProfileCommandTests
{
    private static readonly KernelSample[] s_samples =
    [
        new("cast", "", 0, 10, new KernelWork(1000)),
        new("norm", "layer 0/attention", 20, 5, new KernelWork(4000, 100)),
        new("product", "layer 0/attention", 26, 40, new KernelWork(8000, 4_000_000)),
        new("norm", "layer 0/mlp", 70, 15, new KernelWork(4000, 100)),
        new("norm", "layer 1/attention", 90, 5, new KernelWork(4000, 100)),
    ];

    [Fact]
    public void Without_a_gpu_a_profile_says_what_is_missing() => Command.Run(
        "profile", "bench", "train", "--model", Fixtures.Llama, "--device", "cpu").FailedWith(1, "a profile needs a GPU");

    [Fact]
    public void Kernels_are_totalled_by_name()
    {
        IReadOnlyList<KernelTotal> totals = KernelTotal.Of(s_samples);
        Assert.Equal(["product", "norm", "cast"], totals.Select(t => t.Kernel));
        KernelTotal norm = totals[1];
        // The first of three counts as the mean of 15 and 5.
        Assert.Equal((3, 30, 12000, 300), (norm.Count, norm.Microseconds, norm.Bytes, norm.Flops));
        Assert.Equal(30 / 80.0, norm.Share, 1e-12);
        Assert.Equal(400e6, norm.BytesPerSecond, 1);
        Assert.Equal(0.1, totals[0].FlopsPerSecond / 1e12, 1e-12);
        string[] row = norm.Row(new DevicePeaks(800e6, double.NaN));
        Assert.Equal(["norm", "3", "30.00", "37.5", "10.00", "0.400", "0.000", "50.0", ""], row);
    }

    [Theory]
    [InlineData("gemm bf16 NN 8192x2048x16416", "products")]
    [InlineData("gemm bf16 NT 8192x16x2048", "low-rank path")]
    [InlineData("gemm bf16 NN 16x4096x4096", "products")]
    [InlineData("gemm bf16 NT 2048x17x1024", "products")]
    [InlineData("gemm bf16 TN 2048x2048x256", "products")]
    [InlineData("gemm bf16 TN 128x2048x8192", "low-rank path")]
    [InlineData("gemm f32 TN 4096x16x128", "low-rank path")]
    [InlineData("lowrank_down_m32_r16_bf16", "low-rank path")]
    [InlineData("lowrank_grad_y_r16_bf16", "low-rank path")]
    [InlineData("lowrank_swiglu_bwd_r16_bf16", "activations")]
    [InlineData("lowrank_swiglu_down_m32_r16_bf16", "activations")]
    [InlineData("attention_fwd_wgmma_d64_bf16", "attention")]
    [InlineData("addnorm_rms_fwd_bf16", "norms")]
    [InlineData("crossentropy_long_f32", "embedding and loss")]
    [InlineData("clear", "other")]
    public void A_kernel_serves_a_part_of_the_model(string kernel, string part) => Assert.Equal(part, KernelGroup.GroupOf(kernel));

    [Fact]
    public void Parts_are_summed()
    {
        KernelSample[] samples = [new("rmsnorm_fwd_bf16", "", 0, 10, default), new("layernorm_fwd_bf16", "", 10, 20, default), new("copy_16", "", 30, 10, default)];
        IReadOnlyList<KernelGroup> groups = KernelGroup.Of(KernelTotal.Of(samples));
        Assert.Equal([new KernelGroup("norms", 30, 0.75), new KernelGroup("other", 10, 0.25)], groups);
    }

    [Fact]
    public void Ranges_become_nested_slices()
    {
        Assert.Equal(
            [
                new RangeSlice("layer 0", 0, 20, 85),
                new RangeSlice("attention", 1, 20, 66),
                new RangeSlice("mlp", 1, 70, 85),
                new RangeSlice("layer 1", 0, 90, 95),
                new RangeSlice("attention", 1, 90, 95),
            ],
            RangeSlice.Of(s_samples));
    }

    [Fact]
    public void The_trace_has_a_slice_for_each_launch_and_range()
    {
        using var stream = new MemoryStream();
        TraceFile.Write(stream, "cuda:0", s_samples);
        using JsonDocument json = JsonDocument.Parse(stream.ToArray());
        JsonElement[] slices = [.. json.RootElement.GetProperty("traceEvents").EnumerateArray().Where(e => e.GetProperty("ph").GetString() == "X")];
        Assert.Equal(10, slices.Length);
        JsonElement product = slices.Single(s => s.GetProperty("name").GetString() == "product");
        Assert.Equal((26, 40), (product.GetProperty("ts").GetDouble(), product.GetProperty("dur").GetDouble()));
        Assert.Equal(4_000_000, product.GetProperty("args").GetProperty("flops").GetInt64());
        Assert.Equal(8000, product.GetProperty("args").GetProperty("bytes").GetInt64());
    }
}
