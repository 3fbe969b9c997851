using System.Text;
using Engine.Tensors.Cuda;

namespace Engine.Tensors.Tests.Cuda;

/// <summary>What is said when an image, a launch or a kernel fails.</summary>
[Collection(nameof(CudaCollection))]
public sealed class CudaErrorTests
{
    private readonly CudaDevice _device = RequireCuda.Device();

    [Fact]
    public void An_image_that_is_none_is_named_with_the_compilers_log()
    {
        _device.Context.MakeCurrent();
        const string Broken = ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry broken() { nonsense; }\n\0";
        var syntax = Assert.Throws<CudaException>(() => new CudaModule(Encoding.ASCII.GetBytes(Broken), "broken.ptx"));
        Assert.Contains("broken.ptx", syntax.Message, StringComparison.Ordinal);
        Assert.Contains("CUDA_ERROR_INVALID_PTX", syntax.Message, StringComparison.Ordinal);
        Assert.Contains("line 4", syntax.Message, StringComparison.Ordinal);
        var garbage = Assert.Throws<CudaException>(() => new CudaModule(new byte[300], "garbage.cubin"));
        Assert.Contains("garbage.cubin", garbage.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_entry_point_that_is_not_there_is_named_with_its_image()
    {
        using var increment = new Increment(_device);
        string message = Assert.Throws<CudaException>(() => increment.Module.Kernel("decrement")).Message;
        Assert.Contains("increment.ptx has no entry point decrement", message, StringComparison.Ordinal);
        Assert.Equal(24u, increment.Module.Constant("increment_params"));
        Assert.Null(increment.Module.Constant("decrement_params"));
    }

    [Fact]
    public void A_launch_that_is_refused_names_the_kernel_and_its_extents()
    {
        using var increment = new Increment(_device);
        using Tensor x = Tensor.From([1, 2, 3], [3], _device);
        using Tensor y = x.ZerosLike();
        Assert.InRange(increment.Kernel.MaxThreads, 32, 1024);
        string message = Assert.Throws<CudaException>(() => increment.Launch(x.Pointer, y.Pointer, 3, threads: 4096)).Message;
        Assert.Contains("kernel increment failed with CUDA_ERROR_INVALID_VALUE", message, StringComparison.Ordinal);
        Assert.Contains("grid 1×1×1, block 4096", message, StringComparison.Ordinal);
        Assert.Contains("Parameters: ", message, StringComparison.Ordinal);

        // The device goes on, and an empty grid is none.
        increment.Launch(0, 0, 0, threads: 32);
        increment.Run(x, y);
        Assert.Equal([2, 3, 4], y.ToArray<int>());
    }

    [Fact]
    public void A_kernel_tells_what_it_uses()
    {
        using var increment = new Increment(_device);
        Assert.InRange(increment.Kernel.Registers, 1, 64);
        Assert.Equal((0, 0), (increment.Kernel.StaticSharedBytes, increment.Kernel.LocalBytes));
        Assert.True(increment.Kernel.Architecture >= 80);
        Assert.InRange(increment.Kernel.BlocksPerMultiprocessor(128), 1, 64);
    }

    /// <summary>An illegal access ends the context for good, so it happens in a process of its own.</summary>
    [Fact]
    public void With_the_synchronising_variable_the_kernel_at_fault_is_named()
    {
        (int exitCode, string output) = ChildTest.Run(
            typeof(CudaErrorTests), nameof(Child_illegal_access), (CudaDevice.SynchronizeVariable, "1"));
        Assert.True(exitCode == 0, output);
        (exitCode, output) = ChildTest.Run(typeof(CudaErrorTests), nameof(Child_illegal_access), (CudaDevice.SynchronizeVariable, "0"));
        Assert.True(exitCode == 0, output);
    }

    [Fact(Explicit = true)]
    public void Child_illegal_access()
    {
        var increment = new Increment(_device);
        if (_device.SynchronizesLaunches)
        {
            Assert.False(_device.UsesGraphs);
            string named = Assert.Throws<CudaException>(() => increment.Launch(64, 64, 1, threads: 32)).Message;
            Assert.Contains("kernel increment failed with CUDA_ERROR_ILLEGAL_ADDRESS", named, StringComparison.Ordinal);
            return;
        }

        increment.Launch(64, 64, 1, threads: 32);
        string later = Assert.Throws<CudaException>(_device.Synchronize).Message;
        Assert.Contains("CUDA_ERROR_ILLEGAL_ADDRESS", later, StringComparison.Ordinal);
        Assert.Contains($"set {CudaDevice.SynchronizeVariable}=1 to find the kernel", later, StringComparison.Ordinal);
    }
}
