using Engine.Tensors.Cuda;

namespace Engine.Tensors.Tests.Cuda;

/// <summary>What is said where there is no GPU. These run on every machine.</summary>
public sealed class CudaUnavailableTests
{
    [Fact]
    public void Either_there_is_a_device_or_the_reason_says_what_to_do()
    {
        string? reason = CudaContext.WhyUnavailable();
        if (reason is null)
        {
            Assert.Equal("cuda:0", RequireCuda.Device().Name);
            return;
        }

        Assert.Equal(reason, Assert.Throws<EngineDataException>(() => CudaDevice.Get()).Message);
        Assert.Equal(reason, Assert.Throws<EngineDataException>(() => CudaDevice.Get(7)).Message);
        Assert.Matches("Install the NVIDIA driver|update the driver|check nvidia-smi", reason);
    }

    [Theory]
    [InlineData("cuda", "NVIDIA driver", "libcuda.so.1", "nvcuda.dll")]
    [InlineData("cublasLt", "cuBLASLt", "libcublasLt.so.12", "cublasLt64_12.dll")]
    public void A_library_that_is_missing_lists_what_was_tried(string name, string title, string linux, string windows)
    {
        if (CudaLibraries.TryLoad(name, out nint handle, out string? failure))
        {
            Assert.NotEqual(0, handle);
            Assert.Null(failure);
            return;
        }

        Assert.Contains(title, failure, StringComparison.Ordinal);
        Assert.Contains("tried ", failure, StringComparison.Ordinal);
        Assert.Contains(OperatingSystem.IsWindows() ? windows : linux, failure, StringComparison.Ordinal);
        Assert.Contains("Install", failure, StringComparison.Ordinal);
        Assert.Contains(CudaLibraries.PathVariable, failure, StringComparison.Ordinal);
        Assert.False(CudaLibraries.TryLoad(name, out _, out string? again));
        Assert.Equal(failure, again);
    }

    /// <summary>With the library for profilers' ranges, which no other test asks for: the outcome is kept for the process.</summary>
    [Fact]
    public void Folders_that_the_variable_names_are_tried_first()
    {
        using var first = new TemporaryDirectory();
        using var second = new TemporaryDirectory();
        string? before = Environment.GetEnvironmentVariable(CudaLibraries.PathVariable);
        try
        {
            Environment.SetEnvironmentVariable(CudaLibraries.PathVariable, first.Path + Path.PathSeparator + second.Path);
            if (!CudaLibraries.TryLoad("nvtx", out _, out string? failure))
            {
                int own = failure.IndexOf(first.Path, StringComparison.Ordinal);
                Assert.InRange(own, 1, failure.IndexOf(second.Path, StringComparison.Ordinal));
                Assert.Contains(", " + (OperatingSystem.IsWindows() ? "nvtx3interop.dll" : "libnvtx3interop.so.1"), failure, StringComparison.Ordinal);
            }
        }
        finally
        {
            Environment.SetEnvironmentVariable(CudaLibraries.PathVariable, before);
        }
    }

    [Fact]
    public void A_library_of_another_name_is_a_mistake() =>
        Assert.Throws<ArgumentException>(() => CudaLibraries.TryLoad("cudart", out _, out _));

    [Fact]
    public void Out_of_memory_says_how_much_of_what()
    {
        var error = new DeviceOutOfMemoryException("cuda:3", 5L << 30, 2L << 30, 80L << 30, 77L << 30);
        Assert.Equal((5L << 30, 2L << 30, 80L << 30, 77L << 30), (error.Requested, error.Free, error.Total, error.Live));
        Assert.Equal(
            "out of memory on cuda:3: 5,120 MiB more were asked for; 2,048 MiB of 81,920 MiB are free and 78,848 MiB are in use by tensors; " +
            "a smaller --batch-size or --max-length, or --gradient-checkpointing, needs less",
            error.Message);
    }
}
