using Engine.Tensors.Cuda;

namespace Engine.Tensors.Tests.Cuda;

/// <summary>Steps that are warmed up, recorded and replayed.</summary>
[Collection(nameof(CudaCollection))]
public sealed class CudaStepGraphsTests : IDisposable
{
    private const int Length = 1000;

    private readonly CudaDevice _device = RequireCuda.Device();
    private readonly long _storages;
    private readonly Work _work;

    public CudaStepGraphsTests()
    {
        Assert.SkipUnless(_device.UsesGraphs, $"{CudaDevice.NoGraphsVariable} or {CudaDevice.SynchronizeVariable} is set");
        _storages = _device.LiveStorages;
        _work = new Work(_device);
    }

    public void Dispose()
    {
        Assert.False(_device.Stream.IsCapturing);
        _work.Dispose();
        Assert.Equal(_storages, _device.LiveStorages);
    }

    [Fact]
    public void A_replay_computes_with_what_the_inputs_hold_then()
    {
        using var graphs = new StepGraphs<int>(_device);
        for (int i = 0; i < 8; i++)
        {
            AssertStep(graphs, key: 1, i * 100);
            Assert.Equal(i < 2 ? 0 : 1, graphs.Recordings);
            Assert.Equal(Math.Max(0, i - 2), graphs.Replays);
        }
    }

    [Fact]
    public void Each_key_is_recorded_and_the_one_longest_unused_goes_first()
    {
        using var graphs = new StepGraphs<int>(_device, capacity: 2);
        foreach (int key in new[] { 1, 2 })
        {
            for (int i = 0; i < 4; i++)
            {
                AssertStep(graphs, key, i);
            }
        }

        Assert.Equal((2, 2), (graphs.Recordings, graphs.Replays));
        AssertStep(graphs, 1, 50);
        AssertStep(graphs, 3, 60);
        AssertStep(graphs, 1, 70);
        Assert.Equal((2, 4), (graphs.Recordings, graphs.Replays));
        AssertStep(graphs, 2, 80);
        Assert.Equal((2, 4), (graphs.Recordings, graphs.Replays));
    }

    [Fact]
    public void Invalidated_recordings_are_made_again()
    {
        using var graphs = new StepGraphs<int>(_device);
        for (int i = 0; i < 4; i++)
        {
            AssertStep(graphs, 1, i);
        }

        Assert.Equal((1, 1), (graphs.Recordings, graphs.Replays));
        _work.Replace();
        _device.InvalidateGraphs();
        for (int i = 0; i < 4; i++)
        {
            AssertStep(graphs, 1, 10 * i);
        }

        Assert.Equal((2, 2), (graphs.Recordings, graphs.Replays));
    }

    [Fact]
    public void A_replay_takes_nothing_from_the_managed_heap_or_the_driver()
    {
        using var graphs = new StepGraphs<int>(_device);
        Action<Work> step = static w => w.Step();
        for (int i = 0; i < 5; i++)
        {
            graphs.Run(1, _work, step);
        }

        long calls = _device.DriverAllocations;
        long storages = _device.LiveStorages;
        Assert.Equal(0, Allocated.By(() =>
        {
            for (int i = 0; i < 100; i++)
            {
                graphs.Run(1, _work, step);
            }
        }));
        Assert.Equal(calls, _device.DriverAllocations);
        Assert.Equal(storages, _device.LiveStorages);
        Assert.Equal(302, graphs.Replays);
    }

    [Fact]
    public void A_step_that_leaves_storage_behind_is_refused()
    {
        using var graphs = new StepGraphs<int>(_device);
        string message = Assert.Throws<InvalidOperationException>(() => graphs.Run(1, _work, static w => w.Leak())).Message;
        Assert.Contains("4096 bytes of its own storage", message, StringComparison.Ordinal);
        _work.Leaked!.Dispose();
        AssertStep(graphs, 2, 5);
    }

    [Fact]
    public void What_a_failed_step_left_behind_burdens_no_other()
    {
        using (var graphs = new StepGraphs<int>(_device))
        {
            Assert.Throws<InvalidOperationException>(() => graphs.Run(1, _work, static w => w.Leak()));
            for (int i = 0; i < 4; i++)
            {
                AssertStep(graphs, 2, i);
            }
        }

        using (var next = new StepGraphs<int>(_device))
        {
            AssertStep(next, 1, 0);
        }

        // Its recorder is gone; the memory still finds its way home.
        _work.Leaked!.Dispose();
        _device.Trim();
    }

    [Fact]
    public void Another_thread_is_refused_memory_while_a_step_is_recorded()
    {
        using var graphs = new StepGraphs<int>(_device);
        CudaDevice device = _device;
        graphs.Run(1, device, static d =>
        {
            Exception? refusal = null;
            var other = new Thread(() => refusal = Record.Exception(() => Tensor.Empty([1], DType.I32, d).Dispose()));
            other.Start();
            other.Join();
            Assert.Contains("one thread at a time", Assert.IsType<InvalidOperationException>(refusal).Message);
        });
        AssertStep(graphs, 2, 5);
    }

    [Fact]
    public void A_forgotten_key_is_recorded_anew()
    {
        using var graphs = new StepGraphs<int>(_device);
        for (int i = 0; i < 4; i++)
        {
            AssertStep(graphs, 1, i);
            AssertStep(graphs, 2, i);
        }

        graphs.Forget(1);
        graphs.Forget(7);
        AssertStep(graphs, 2, 9);
        Assert.Equal((2, 3), (graphs.Recordings, graphs.Replays));
        AssertStep(graphs, 1, 9);
        Assert.Equal((2, 3), (graphs.Recordings, graphs.Replays));
    }

    [Fact]
    public void What_outlives_a_step_is_allocated_durably()
    {
        using var graphs = new StepGraphs<int>(_device);
        for (int i = 0; i < 4; i++)
        {
            graphs.Run(1, _work, static w => w.KeepDurably());
        }

        Assert.Equal((1, 1), (graphs.Recordings, graphs.Replays));
        Assert.Equal([.. Enumerable.Range(0, Length).Select(i => i + 1)], _work.Kept!.ToArray<int>());
    }

    [Fact]
    public void A_copy_to_or_from_the_host_cannot_be_recorded()
    {
        using var graphs = new StepGraphs<int>(_device);
        Action<Work>[] steps = [static w => w.X.ToArray<int>(), static w => w.X.CopyFrom<int>(new int[Length])];
        foreach ((int key, Action<Work> step) in new[] { (10, steps[0]), (11, steps[1]) })
        {
            graphs.Run(key, _work, step);
            graphs.Run(key, _work, step);
            string message = Assert.Throws<InvalidOperationException>(() => graphs.Run(key, _work, step)).Message;
            Assert.Contains("while a step is being recorded", message, StringComparison.Ordinal);
            Assert.False(_device.Stream.IsCapturing);
        }

        for (int i = 0; i < 4; i++)
        {
            AssertStep(graphs, 1, i);
        }

        Assert.Equal((1, 1), (graphs.Recordings, graphs.Replays));
    }

    [Fact]
    public void An_exception_in_a_step_leaves_the_device_as_it_was()
    {
        using var graphs = new StepGraphs<int>(_device);
        for (int i = 0; i < 3; i++)
        {
            // The third time it is being recorded.
            _work.Fails = true;
            Assert.Throws<NotSupportedException>(() => graphs.Run(1, _work, static w => w.Step()));
            Assert.False(_device.Stream.IsCapturing);
            _work.Fails = false;
            AssertStep(graphs, 1, i);
        }

        Assert.Equal(1, graphs.Recordings);
    }

    [Fact]
    public void Recorded_work_cannot_contain_recorded_work()
    {
        using var graphs = new StepGraphs<int>(_device);
        using var inner = new StepGraphs<int>(_device);
        Assert.Throws<InvalidOperationException>(
            () => graphs.Run(1, (Inner: inner, Work: _work), static s => s.Inner.Run(1, s.Work, static w => w.Step())));
        AssertStep(graphs, 2, 1);
    }

    [Fact]
    public void Memory_of_a_recorder_that_is_gone_serves_the_next_and_is_trimmed()
    {
        _device.Trim();
        long before = _device.ReservedBytes;
        var graphs = new StepGraphs<int>(_device);
        for (int i = 0; i < 4; i++)
        {
            AssertStep(graphs, 1, i);
        }

        long reserved = _device.ReservedBytes;
        Assert.True(reserved > before);
        graphs.Dispose();
        graphs.Dispose();
        using (var next = new StepGraphs<int>(_device))
        {
            AssertStep(next, 1, 0);
        }

        Assert.Equal(reserved, _device.ReservedBytes);
        _device.Trim();
        Assert.Equal(before, _device.ReservedBytes);
    }

    [Fact]
    public void Without_graphs_each_step_runs()
    {
        _device.UsesGraphs = false;
        try
        {
            using var graphs = new StepGraphs<int>(_device);
            for (int i = 0; i < 4; i++)
            {
                AssertStep(graphs, 1, i);
            }

            Assert.Equal((0, 0), (graphs.Recordings, graphs.Replays));
            Assert.Equal(64, _device.ShapeGranularity);
        }
        finally
        {
            _device.UsesGraphs = true;
        }
    }

    private void AssertStep(StepGraphs<int> graphs, int key, int first)
    {
        int[] values = [.. Enumerable.Range(first, Length)];
        _work.X.CopyFrom<int>(values);
        graphs.Run(key, _work, static w => w.Step());
        Assert.Equal([.. values.Select(v => v + 2)], _work.Y.ToArray<int>());
    }

    // y = x + 2 by way of storage of the step's own.
    private sealed class Work(CudaDevice device) : IDisposable
    {
        private readonly Increment _increment = new(device);

        public Tensor X { get; private set; } = Tensor.From([.. Enumerable.Range(0, Length)], [Length], device);

        public Tensor Y { get; private set; } = Tensor.Zeros([Length], DType.I32, device);

        public Tensor? Leaked { get; private set; }

        public Tensor? Kept { get; private set; }

        public bool Fails { get; set; }

        public void Step()
        {
            using Tensor between = Tensor.Empty([Length], DType.I32, device);
            _increment.Run(X, between);
            if (Fails)
            {
                throw new NotSupportedException("as intended");
            }

            _increment.Run(between, Y);
        }

        public void Leak() => Leaked = Tensor.Empty([Length], DType.I32, device);

        public void KeepDurably()
        {
            using (device.Durable())
            {
                Kept ??= Tensor.Empty([Length], DType.I32, device);
            }

            _increment.Run(X, Kept);
        }

        /// <summary>Puts the tensors elsewhere.</summary>
        public void Replace()
        {
            (Tensor x, Tensor y) = (X, Y);
            (X, Y) = (x.Clone(), y.Clone());
            x.Dispose();
            y.Dispose();
        }

        public void Dispose()
        {
            X.Dispose();
            Y.Dispose();
            Leaked?.Dispose();
            Kept?.Dispose();
            _increment.Dispose();
        }
    }
}
