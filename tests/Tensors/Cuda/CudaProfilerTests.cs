using Engine.Tensors.Cuda;

namespace Engine.Tensors.Tests.Cuda;

/// <summary>Times of single launches.</summary>
[Collection(nameof(CudaCollection))]
public sealed class CudaProfilerTests
{
    private readonly CudaDevice _device = RequireCuda.Device();

    [Fact]
    public void Each_launch_is_a_sample_with_its_range_and_its_work()
    {
        using var increment = new Increment(_device);
        using Tensor x = Tensor.Zeros([100_000], DType.I32, _device);
        using Tensor y = x.ZerosLike();
        bool usedGraphs = _device.UsesGraphs;
        using (var profiler = new CudaProfiler(_device))
        {
            Assert.Same(profiler, _device.Profiler);
            Assert.False(_device.UsesGraphs);
            Assert.Throws<InvalidOperationException>(() => new CudaProfiler(_device));
            using (_device.Range("layer 3"))
            {
                increment.Run(x, y, new KernelWork(800_000, 100_000));
                using (_device.Range("attention"))
                {
                    increment.Run(y, x);
                }
            }

            _device.Copy(x.Pointer, y.Pointer, x.ByteLength);
            IReadOnlyList<KernelSample> samples = profiler.Collect();
            Assert.Equal(
                [("increment", "layer 3"), ("increment", "layer 3/attention"), ("copy", "")], samples.Select(s => (s.Kernel, s.Range)));
            Assert.Equal(new KernelWork(800_000, 100_000), samples[0].Work);
            Assert.Equal(new KernelWork(2 * x.ByteLength), samples[2].Work);
            Assert.All(samples, s => Assert.InRange(s.Microseconds, 0.1, 1e6));
            Assert.All(samples.Zip(samples.Skip(1)), p => Assert.True(p.First.StartMicroseconds < p.Second.StartMicroseconds));

            // What was collected is forgotten, and its events serve again.
            Assert.Empty(profiler.Collect());
            increment.Run(x, y);
            Assert.Single(profiler.Collect());
        }

        Assert.Null(_device.Profiler);
        Assert.Equal(usedGraphs, _device.UsesGraphs);
        Assert.Equal("", _device.CurrentRange);
        Assert.Equal(3, y.ToArray<int>()[7]);
    }
}
