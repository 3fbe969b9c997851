using System.Runtime.InteropServices;

namespace Engine.Kernels.Cpu;

/// <summary>A loop in flight: hands out indexes until none is left.</summary>
internal abstract class ParallelJob
{
    private Counter _counter;
    private Exception? _error;

    /// <summary>Number of indexes of the open loop.</summary>
    protected int Tasks { get; set; }

    /// <summary>Runs tasks on the current thread until all are handed out. Never throws: the first exception is kept.</summary>
    public void RunTasks()
    {
        try
        {
            // The number of threads bounds how far the counter runs past Tasks, so it cannot wrap for Tasks < 2³¹ − 1024;
            // the unsigned comparison covers the rest.
            uint index;
            while ((index = (uint)(Interlocked.Increment(ref _counter.Next) - 1)) < (uint)Tasks)
            {
                Invoke((int)index);
            }
        }
#pragma warning disable CA1031 // Kept here and thrown again on the thread that started the loop.
        catch (Exception e)
#pragma warning restore CA1031
        {
            Interlocked.CompareExchange(ref _error, e, null);
            Volatile.Write(ref _counter.Next, Tasks);
        }
    }

    /// <summary>The first exception a task threw, or null.</summary>
    public Exception? TakeError() => Interlocked.Exchange(ref _error, null);

    /// <summary>Runs one task.</summary>
    protected abstract void Invoke(int index);

    /// <summary>Makes all indexes available again.</summary>
    protected void Restart(int tasks)
    {
        Tasks = tasks;
        _counter.Next = 0;
    }

    [StructLayout(LayoutKind.Explicit, Size = 256)]
    private struct Counter
    {
        [FieldOffset(128)]
        public int Next;
    }
}

/// <summary>The job for one type of state: a single instance, reused, since the pool runs one loop at a time.</summary>
internal sealed class ParallelJob<TState> : ParallelJob
{
    /// <summary>The instance; owned by whoever holds the pool.</summary>
    public static readonly ParallelJob<TState> Instance = new();

    private TState _state = default!;
    private Action<TState, int>? _body;

    /// <summary>Prepares the loop.</summary>
    public void Open(int tasks, TState state, Action<TState, int> body)
    {
        _state = state;
        _body = body;
        Restart(tasks);
    }

    /// <summary>Drops the references that the finished loop held.</summary>
    public void Clear()
    {
        _state = default!;
        _body = null;
    }

    /// <inheritdoc/>
    protected override void Invoke(int index) => _body!(_state, index);
}
