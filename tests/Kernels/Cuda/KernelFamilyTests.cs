using System.Text;
using Engine.Kernels.Cuda;
using Engine.Tensors;
using Engine.Tensors.Cuda;

namespace Engine.Kernels.Tests.Cuda;

/// <summary>Images and launchers on a GPU.</summary>
[Collection(nameof(CudaCollection))]
public sealed class KernelFamilyTests
{
    private readonly CudaDevice _device = RequireCuda.Device();

    [Fact]
    public void Every_image_for_this_device_loads_and_has_its_entry_points()
    {
        _device.Context.MakeCurrent();
        foreach (string op in KernelImages.Ops)
        {
            byte[] ptx = KernelImages.Read(op + ".ptx");
            string[] entries = [.. ManifestTests.EntryPoint().Matches(Encoding.ASCII.GetString(ptx)).Select(m => m.Groups[1].Value)];
            Assert.NotEmpty(entries);
            using var portable = new CudaModule(ptx, op + ".ptx");
            CudaModule chosen = KernelImages.Load(_device, op);
            Assert.Same(chosen, KernelImages.Load(_device, op));
            Assert.Equal(KernelImages.Choose(op, _device.Context.ComputeCapability), chosen.Name);
            foreach (string entry in entries)
            {
                Assert.InRange(portable.Kernel(entry).MaxThreads, 32, 1024);
                Assert.InRange(chosen.Kernel(entry).Architecture, 80, _device.Context.ComputeCapability);
            }
        }
    }

    [Fact]
    public void Parameters_of_another_size_are_refused_before_the_first_launch()
    {
        var family = new KernelFamily<int>("rmsnorm", "rmsnorm_fwd");
        string message = Assert.Throws<InvalidOperationException>(
            () => family.Launch(_device, DType.F32, LaunchShape.Blocks(1, 32), 7)).Message;
        Assert.Contains("rmsnorm_fwd takes ", message, StringComparison.Ordinal);
        Assert.Contains("bytes of parameters and Int32 has 4; the image is of another version", message, StringComparison.Ordinal);
        var unknown = new KernelFamily<int>("rmsnorm", "rmsnorm_sideways");
        Assert.Contains(
            "rmsnorm_sideways takes an unknown number of bytes",
            Assert.Throws<InvalidOperationException>(() => unknown.Launch(_device, DType.F32, LaunchShape.Blocks(1, 32), 7)).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void Double_precision_is_refused_with_a_remedy()
    {
        using Tensor x = Tensor.Zeros([2, 8], DType.F64, _device);
        using Tensor w = Tensor.Zeros([8], DType.F64, _device);
        string message = Assert.Throws<NotSupportedException>(() => RmsNorm.Forward(x, w, 1e-5f, x, null)).Message;
        Assert.Contains("not in f64; move the tensors to the cpu", message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_warm_launch_takes_nothing_from_the_managed_heap()
    {
        using Tensor x = Tensor.Zeros([20, 64], DType.F32, _device);
        using Tensor w = Tensor.Zeros([64], DType.F32, _device);
        RmsNorm.Forward(x, w, 1e-5f, x, null);
        RmsNorm.Forward(x, w, 1e-5f, x, null);
        Assert.Equal(0, Allocated.By(() => RmsNorm.Forward(x, w, 1e-5f, x, null)));
    }
}
