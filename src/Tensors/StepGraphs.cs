namespace Engine.Tensors;

/// <summary>
/// Runs a step again and again. On a device that can record, a step of one key runs launch by launch twice (images load,
/// plans are made), is recorded the third time, and replayed from then on; elsewhere it just runs. A key stands for all
/// that shapes the work: extents, options. Everything the step reads that changes from run to run is in device memory
/// that the caller fills beforehand; everything it leaves behind goes to storage that existed before.
/// </summary>
/// <typeparam name="TKey">A value type, so that a replay allocates nothing.</typeparam>
public sealed class StepGraphs<TKey> : IDisposable
    where TKey : struct, IEquatable<TKey>
{
    private const int WarmUps = 2;

    private readonly Device _device;
    private readonly int _capacity;
    private readonly Dictionary<TKey, Entry> _entries = [];
    private DeviceRecorder? _recorder;
    private long _clock;

    /// <summary>Steps on one device.</summary>
    /// <param name="device">Where they run.</param>
    /// <param name="capacity">Recordings kept; the one not used for longest goes first.</param>
    public StepGraphs(Device device, int capacity = 32)
    {
        ArgumentNullException.ThrowIfNull(device);
        _device = device;
        _capacity = capacity;
        _recorder = device.CreateRecorder();
    }

    /// <summary>Steps that were replayed.</summary>
    public long Replays { get; private set; }

    /// <summary>Steps that were recorded.</summary>
    public long Recordings { get; private set; }

    /// <summary>Runs or replays one step.</summary>
    /// <param name="key">What shapes it.</param>
    /// <param name="state">What it works on.</param>
    /// <param name="step">Queues the work; a static lambda, so that a replay allocates nothing.</param>
    /// <exception cref="InvalidOperationException">The step left storage of its own behind.</exception>
    public void Run<TState>(TKey key, TState state, Action<TState> step)
    {
        ArgumentNullException.ThrowIfNull(step);
        if (_recorder is null || !_device.CanRecord)
        {
            step(state);
            return;
        }

        Entry entry = EntryOf(key);
        entry.LastUse = ++_clock;
        if (entry.Graph is not null && entry.Generation == _device.GraphGeneration)
        {
            entry.Graph.Launch();
            Replays++;
            return;
        }

        if (entry.Runs >= WarmUps && !entry.CannotBeRecorded && entry.Generation == _device.GraphGeneration && TryRecord(entry, state, step))
        {
            return;
        }

        entry.Graph?.Dispose();
        entry.Graph = null;
        Within(_recorder, state, step);
        entry.Runs = entry.Generation == _device.GraphGeneration ? entry.Runs + 1 : 1;
        entry.Generation = _device.GraphGeneration;
    }

    /// <summary>Gives up the recording of a key, whose memory outside the step is about to go.</summary>
    public void Forget(TKey key)
    {
        if (_entries.Remove(key, out Entry? entry))
        {
            entry.Graph?.Dispose();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Entry entry in _entries.Values)
        {
            entry.Graph?.Dispose();
        }

        _entries.Clear();
        _recorder?.Dispose();
        _recorder = null;
    }

    private static void Within<TState>(DeviceRecorder recorder, TState state, Action<TState> step)
    {
        recorder.Enter();
        try
        {
            step(state);
        }
        catch
        {
            recorder.Leave();
            throw;
        }

        long left = recorder.Leave();
        if (left != 0)
        {
            throw new InvalidOperationException($"a recorded step left {left} bytes of its own storage in use; the next replay would overwrite them");
        }
    }

    // False when the device refuses the recording, for lack of memory say: then the step just runs, now and in future.
    private bool TryRecord<TState>(Entry entry, TState state, Action<TState> step)
    {
        _recorder!.Enter();
        bool capturing = false;
        try
        {
            _recorder.BeginCapture();
            capturing = true;
            step(state);
            capturing = false;
            entry.Graph = _recorder.EndCapture();
            Recordings++;
        }
        catch (DeviceException)
        {
            entry.CannotBeRecorded = true;
            return false;
        }
        finally
        {
            if (capturing)
            {
                _recorder.AbandonCapture();
            }

            _recorder.Leave();
        }

        entry.Graph.Launch();
        return true;
    }

    private Entry EntryOf(TKey key)
    {
        if (_entries.TryGetValue(key, out Entry? entry))
        {
            return entry;
        }

        if (_entries.Count >= _capacity)
        {
            TKey oldest = _entries.MinBy(static e => e.Value.LastUse).Key;
            _entries.Remove(oldest, out Entry? gone);
            gone!.Graph?.Dispose();
        }

        entry = new Entry();
        _entries.Add(key, entry);
        return entry;
    }

    private sealed class Entry
    {
        public IDeviceGraph? Graph { get; set; }

        public int Runs { get; set; }

        public int Generation { get; set; } = -1;

        public bool CannotBeRecorded { get; set; }

        public long LastUse { get; set; }
    }
}
