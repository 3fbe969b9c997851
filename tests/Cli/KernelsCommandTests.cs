using System.Text.Json;
using Engine.Kernels.Cuda;

namespace Engine.Cli.Tests;

public class KernelsCommandTests
{
    [Fact]
    public void Every_op_with_an_image_has_its_kernels_listed()
    {
        string text = Command.Run("kernels").Succeeded();
        using JsonDocument json = JsonDocument.Parse(Command.Run("kernels", "--json").Succeeded());
        JsonElement[] kernels = [.. json.RootElement.GetProperty("kernels").EnumerateArray()];
        Assert.Equal(KernelImages.Ops, kernels.Select(k => k.GetProperty("op").GetString()!).Distinct().Order(StringComparer.Ordinal));
        foreach (JsonElement kernel in kernels)
        {
            Assert.Contains(kernel.GetProperty("name").GetString()!, text, StringComparison.Ordinal);
            bool native = kernel.GetProperty("ptx_version").GetString() is "";
            Assert.Equal(native ? "sm_90a" : "sm_80", kernel.GetProperty("ptx_target").GetString());
        }

        Assert.Equal(KernelImages.Names, json.RootElement.GetProperty("images").EnumerateArray().Select(i => i.GetProperty("image").GetString()!).Order(StringComparer.Ordinal));
        Assert.Contains("rmsnorm_fwd_bf16", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_a_gpu_the_list_says_what_is_missing()
    {
        CommandResult result = Command.Run("kernels", "--op", "rmsnorm", "--device", "cpu");
        Assert.Matches(@"[78]\.\d for sm_80", result.Succeeded());
        Assert.Contains("need a GPU", result.Error, StringComparison.Ordinal);
        Assert.Equal("", Command.Run("kernels", "--op", "rmsnorm", "--device", "cpu", "--quiet").Error);
    }

    [Fact]
    public void Entry_points_are_read_with_their_launch_bounds()
    {
        IReadOnlyList<KernelEntry> entries = KernelEntry.Parse("foo", """
            .version 7.8
            .target sm_80
            .visible .entry foo_fwd_f32(
            	.param .align 8 .b8 foo_fwd_f32_param_0[56]
            )
            .maxntid 16, 8, 2
            {
            	ret;
            }
            .visible .entry foo_bwd(
            	.param .u64 p
            )
            {
            	ret;
            }
            """);
        Assert.Equal([new KernelEntry("foo", "foo_fwd_f32", 256, "7.8", "sm_80"), new KernelEntry("foo", "foo_bwd", 0, "7.8", "sm_80")], entries);
    }

    [Fact]
    public void Kernels_of_one_architecture_alone_are_read_from_its_image()
    {
        KernelEntry[] native = [.. KernelEntry.Of("attention").Where(static entry => entry.IsNative)];
        Assert.Contains(new KernelEntry("attention", "attention_fwd_wgmma_d64_bf16", 0, "", "sm_90a"), native);
        Assert.All(native, static entry => Assert.Contains("_wgmma_", entry.Name, StringComparison.Ordinal));
        Assert.DoesNotContain(KernelEntry.Of("rmsnorm"), static entry => entry.IsNative);
        Assert.Equal(["a", "b_c"], KernelEntry.NamesIn("x\0.text.b_c\0.text\0.rel.text.d\0.text.a\0"u8));
    }

    [Fact]
    public void The_manifest_describes_every_image() =>
        Assert.Equal(KernelImages.Names, KernelManifest.Read().Select(i => i.Image).Order(StringComparer.Ordinal));
}
