namespace Engine.Tensors.Cuda;

/// <summary>One timed launch.</summary>
/// <param name="Kernel">Its name.</param>
/// <param name="Range">The range it ran in, such as <c>layer 3/attention</c>; empty outside any.</param>
/// <param name="StartMicroseconds">Since the profile began.</param>
/// <param name="Microseconds">Between the events around it.</param>
/// <param name="Work">What it must at least do.</param>
public readonly record struct KernelSample(string Kernel, string Range, double StartMicroseconds, double Microseconds, KernelWork Work);

/// <summary>
/// Times every launch of a device with an event before and after it. Launches are not replayed from graphs meanwhile. An
/// event pair costs the device about two microseconds between kernels, which counts in no kernel's time but that of very
/// short ones.
/// </summary>
public sealed class CudaProfiler : IDisposable
{
    // Launches whose events are held at once; when there are more, the device is waited for and their times are taken.
    private const int MostOpen = 1 << 14;

    private readonly CudaDevice _device;
    private readonly bool _usedGraphs;
    private readonly CudaEvent _origin;
    private readonly List<(string Kernel, string Range, KernelWork Work, CudaEvent Before, CudaEvent After)> _launches = [];
    private readonly Stack<CudaEvent> _free = new();
    private List<KernelSample> _samples = [];
    private (string Kernel, KernelWork Work, CudaEvent Before) _open;

    /// <summary>Starts timing a device's launches.</summary>
    /// <exception cref="InvalidOperationException">The device is being profiled already.</exception>
    public CudaProfiler(CudaDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (device.Profiler is not null)
        {
            throw new InvalidOperationException($"{device.Name} is being profiled already");
        }

        _device = device;
        device.Context.MakeCurrent();
        _origin = new CudaEvent(timing: true);
        _usedGraphs = device.UsesGraphs;
        device.UsesGraphs = false;
        device.Profiler = this;
        device.TracesRanges = true;
        _origin.Record(device.Stream);
    }

    /// <summary>Called before a launch.</summary>
    public void Before(string kernel, KernelWork work)
    {
        CudaEvent before = NewEvent();
        before.Record(_device.Stream);
        _open = (kernel, work, before);
    }

    /// <summary>Called after it.</summary>
    public void After()
    {
        CudaEvent after = NewEvent();
        after.Record(_device.Stream);
        _launches.Add((_open.Kernel, _device.CurrentRange, _open.Work, _open.Before, after));
        if (_launches.Count >= MostOpen)
        {
            Take();
        }
    }

    /// <summary>Waits for the device, returns what was timed since the last call, in order, and forgets it.</summary>
    public IReadOnlyList<KernelSample> Collect()
    {
        Take();
        List<KernelSample> samples = _samples;
        _samples = [];
        return samples;
    }

    /// <summary>Stops timing.</summary>
    public void Dispose()
    {
        _ = Collect();
        _device.Profiler = null;
        _device.TracesRanges = Nvtx.IsActive;
        _device.UsesGraphs = _usedGraphs;
        _origin.Dispose();
        while (_free.TryPop(out CudaEvent? e))
        {
            e.Dispose();
        }
    }

    private void Take()
    {
        _device.Synchronize();
        foreach ((string kernel, string range, KernelWork work, CudaEvent before, CudaEvent after) in _launches)
        {
            _samples.Add(new KernelSample(
                kernel, range, 1000.0 * before.MillisecondsSince(_origin), 1000.0 * after.MillisecondsSince(before), work));
            _free.Push(before);
            _free.Push(after);
        }

        _launches.Clear();
    }

    private CudaEvent NewEvent() => _free.TryPop(out CudaEvent? e) ? e : new CudaEvent(timing: true);
}
