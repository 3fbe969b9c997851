namespace Engine.Tensors.Tests;

/// <summary>Repeated steps and staged values where nothing is recorded.</summary>
[Trait("Device", "Cpu")]
public sealed class StepGraphsTests : IDisposable
{
    private readonly CpuDevice _device = new();

    public void Dispose() => Assert.Equal(0, _device.LiveStorages);

    [Fact]
    public void A_device_that_cannot_record_just_runs()
    {
        using var graphs = new StepGraphs<int>(_device);
        int[] runs = [0];
        for (int i = 0; i < 5; i++)
        {
            graphs.Run(1, runs, static r => r[0]++);
        }

        Assert.Equal(5, runs[0]);
        Assert.Equal((0, 0), (graphs.Recordings, graphs.Replays));
    }

    [Fact]
    public void Staged_values_go_to_the_device_and_back()
    {
        using var staged = new StagedTensor([2, 3], DType.I32, _device);
        int[] values = [1, 2, 3, 4, 5, 6];
        values.CopyTo(staged.Host<int>());
        staged.Upload();
        Assert.Equal(values, staged.Tensor.ToArray<int>());
        staged.Tensor.CopyFrom<int>([6, 5, 4, 3, 2, 1]);
        staged.Download();
        _device.Synchronize();
        Assert.Equal([6, 5, 4, 3, 2, 1], staged.Host<int>().ToArray());
    }

    [Fact]
    public void Host_memory_cannot_be_used_after_it_was_given_back()
    {
        HostMemory memory = _device.AllocateHost(12);
        Assert.Equal(3, memory.Span<int>().Length);
        memory.Dispose();
        memory.Dispose();
        Assert.Throws<ObjectDisposedException>(() => memory.Pointer);
    }
}
