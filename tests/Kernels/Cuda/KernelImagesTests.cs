using Engine.Kernels.Cuda;
using Engine.Tensors;

namespace Engine.Kernels.Tests.Cuda;

/// <summary>Which image a device gets. The variables that say otherwise are the process's, hence the collection.</summary>
[Collection(nameof(CudaCollection))]
public sealed class KernelImagesTests : IDisposable
{
    private readonly string? _target = Environment.GetEnvironmentVariable(KernelImages.TargetVariable);
    private readonly string? _folder = Environment.GetEnvironmentVariable(KernelImages.FolderVariable);

    public KernelImagesTests()
    {
        Environment.SetEnvironmentVariable(KernelImages.TargetVariable, null);
        Environment.SetEnvironmentVariable(KernelImages.FolderVariable, null);
    }

    public void Dispose()
    {
        Environment.SetEnvironmentVariable(KernelImages.TargetVariable, _target);
        Environment.SetEnvironmentVariable(KernelImages.FolderVariable, _folder);
    }

    /// <summary>Native code of the device's own generation, the newest that runs; else the portable image.</summary>
    [Theory]
    [InlineData(80, "rmsnorm.sm_80.cubin")]
    [InlineData(86, "rmsnorm.sm_80.cubin")]
    [InlineData(89, "rmsnorm.sm_80.cubin")]
    [InlineData(90, "rmsnorm.sm_90.cubin")]
    [InlineData(100, "rmsnorm.ptx")]
    [InlineData(120, "rmsnorm.ptx")]
    public void The_best_image_that_runs_is_chosen(int capability, string image)
    {
        Assert.Equal(image, KernelImages.Choose("rmsnorm", capability));
        Environment.SetEnvironmentVariable(KernelImages.TargetVariable, "native");
        Assert.Equal(image, KernelImages.Choose("rmsnorm", capability));
        Environment.SetEnvironmentVariable(KernelImages.TargetVariable, "ptx");
        Assert.Equal("rmsnorm.ptx", KernelImages.Choose("rmsnorm", capability));
    }

    [Fact]
    public void Where_there_is_no_image_the_error_says_so()
    {
        Assert.Contains(
            "no kernel image of rmsnorm for compute capability 7.5",
            Assert.Throws<EngineDataException>(() => KernelImages.Choose("rmsnorm", 75)).Message,
            StringComparison.Ordinal);
        Assert.Contains("of nothing", Assert.Throws<EngineDataException>(() => KernelImages.Choose("nothing", 90)).Message, StringComparison.Ordinal);
        Assert.Contains("nothing.ptx", Assert.Throws<EngineDataException>(() => KernelImages.Read("nothing.ptx")).Message, StringComparison.Ordinal);
        Environment.SetEnvironmentVariable(KernelImages.TargetVariable, "sass");
        string message = Assert.Throws<EngineDataException>(() => KernelImages.Choose("rmsnorm", 90)).Message;
        Assert.Contains("ENGINE_KERNEL_TARGET is \"sass\"; expected native or ptx", message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_folder_takes_the_place_of_what_is_built_in()
    {
        string folder = Directory.CreateTempSubdirectory("engine-test-").FullName;
        try
        {
            // An architecture with an "a" runs on that one alone, and there it is the best.
            foreach (string name in new[] { "op.ptx", "op.sm_90.cubin", "op.sm_90a.cubin", "op.sm_86.cubin", "op2.sm_80.cubin", "readme.md" })
            {
                File.WriteAllText(Path.Combine(folder, name), name);
            }

            Environment.SetEnvironmentVariable(KernelImages.FolderVariable, folder);
            Assert.Equal(["op", "op2"], KernelImages.Ops);
            Assert.Equal("op.sm_90a.cubin", KernelImages.Choose("op", 90));
            Assert.Equal("op.ptx", KernelImages.Choose("op", 80));
            Assert.Equal("op.sm_86.cubin", KernelImages.Choose("op", 89));
            Assert.Equal("op.ptx", KernelImages.Choose("op", 100));
            Assert.Equal("op.ptx\0"u8.ToArray(), KernelImages.Read("op.ptx"));
            Assert.Equal("op.sm_90.cubin"u8.ToArray(), KernelImages.Read("op.sm_90.cubin"));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
