namespace Engine.Tensors.Cuda;

/// <content>Recording of steps.</content>
public sealed unsafe partial class CudaDevice
{
    private readonly List<CudaRecorder> _recorders = [];
    private readonly Dictionary<nint, long> _segments = [];

    // Arenas of recorders that are gone, for those to come: generating makes a recorder for each batch.
    private readonly Stack<CudaPool> _spareArenas = new();

    // Arenas of recorders that are gone in which something was left, by a step that failed: they take it back and serve no more.
    private readonly List<CudaPool> _retiredArenas = [];

    // The thread whose work is being recorded.
    private int _recordingThread;

    /// <inheritdoc/>
    public override bool CanRecord => UsesGraphs;

    /// <inheritdoc/>
    public override DeviceRecorder? CreateRecorder()
    {
        if (!UsesGraphs)
        {
            return null;
        }

        lock (_lock)
        {
            var recorder = new CudaRecorder(this, _spareArenas.TryPop(out CudaPool? arena) ? arena : NewPool());
            _recorders.Add(recorder);
            return recorder;
        }
    }

    /// <inheritdoc/>
    public override DurableScope Durable()
    {
        CudaPool? arena = _arena;
        _arena = null;
        return new DurableScope(this, arena);
    }

    /// <inheritdoc/>
    protected internal override void EndDurable(object? arena) => _arena = (CudaPool?)arena;

    /// <summary>Records into graphs, and owns the memory that the recorded work runs in.</summary>
    private sealed class CudaRecorder(CudaDevice device, CudaPool arena) : DeviceRecorder
    {
        private long _usedBefore;

        public CudaPool Arena => arena;

        public bool IsEntered { get; private set; }

        public override void Enter()
        {
            if (device._arena is not null)
            {
                throw new InvalidOperationException("recorded work cannot contain other recorded work");
            }

            device.Context.MakeCurrent();
            device._recordingThread = Environment.CurrentManagedThreadId;
            device._arena = arena;
            _usedBefore = arena.UsedBytes;
            IsEntered = true;
        }

        public override long Leave()
        {
            device._arena = null;
            IsEntered = false;
            return arena.UsedBytes - _usedBefore;
        }

        public override void BeginCapture() => device.Stream.BeginCapture();

        public override IDeviceGraph EndCapture() => new Graph(device, device.Stream.EndCapture());

        public override void AbandonCapture() => device.Stream.AbandonCapture();

        public override void Dispose()
        {
            device.Settle();
            lock (device._lock)
            {
                device._recorders.Remove(this);
                if (arena.UsedBytes == 0)
                {
                    device._spareArenas.Push(arena);
                }
                else
                {
                    device._retiredArenas.Add(arena);
                }
            }
        }
    }

    private sealed class Graph(CudaDevice device, CudaGraph graph) : IDeviceGraph
    {
        public int Nodes => graph.Nodes;

        public void Launch()
        {
            device.Context.MakeCurrent();
            graph.Launch(device.Stream);
        }

        public void Dispose()
        {
            device.Settle();
            graph.Dispose();
        }
    }
}
