using System.Diagnostics;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace Engine.Kernels.Cpu;

/// <summary>
/// The workers behind <see cref="CpuParallel"/>. One loop runs at a time. Starting one publishes the job and bumps an
/// epoch; workers that notice join, the others are not waited for: a worker that the operating system has not scheduled
/// costs nothing.
/// </summary>
internal sealed class WorkerPool
{
    /// <summary>How long a worker looks for the next loop before it sleeps. A wake-up costs about 5 to 50 µs.</summary>
    private static readonly long s_spinTicks = Stopwatch.Frequency * 50 / 1_000_000;

    [ThreadStatic]
    private static bool t_insideLoop;

    private readonly Worker[] _workers = new Worker[1024];
    private Shared _shared;
    private ParallelJob? _job;
    private int _started;
    private int _busy;

    /// <summary>Whether the current thread is inside a task.</summary>
    public static bool InsideLoop => t_insideLoop;

    /// <summary>Runs the loop; false, with nothing done, when this is a nested or a concurrent call.</summary>
    public bool TryRun<TState>(int threads, int tasks, TState state, Action<TState, int> body)
    {
        if (t_insideLoop || Interlocked.CompareExchange(ref _busy, 1, 0) != 0)
        {
            return false;
        }

        // Holding _busy makes the one cached job of this state type ours.
        ParallelJob<TState> job = ParallelJob<TState>.Instance;
        try
        {
            StartWorkers(threads - 1);
            job.Open(tasks, state, body);
            Run(job, threads);
            Exception? error = job.TakeError();
            if (error is not null)
            {
                ExceptionDispatchInfo.Throw(error);
            }
        }
        finally
        {
            job.Clear();
            Volatile.Write(ref _busy, 0);
        }

        return true;
    }

    private void Run(ParallelJob job, int threads)
    {
        _job = job;
        _shared.Helpers = threads - 1;
        int epoch = _shared.Epoch + 1;

        // Full fence: the job is visible before it opens, and the epoch before the sleeping flags are read below.
        Interlocked.Exchange(ref _shared.Open, 1);
        Interlocked.Exchange(ref _shared.Epoch, epoch);
        for (int i = 0; i < threads - 1; i++)
        {
            _workers[i].Wake();
        }

        RunTasks(job);

        // Dekker: we close, then read Active; a worker raises Active, then reads Open. One of the two sees the other.
        Interlocked.Exchange(ref _shared.Open, 0);
        SpinWait spin = default;
        while (Volatile.Read(ref _shared.Active) != 0)
        {
            spin.SpinOnce(sleep1Threshold: -1);
        }
    }

    private static void RunTasks(ParallelJob job)
    {
        t_insideLoop = true;
        job.RunTasks();
        t_insideLoop = false;
    }

    private void StartWorkers(int count)
    {
        for (; _started < count; _started++)
        {
            var worker = new Worker();
            _workers[_started] = worker;
            int index = _started;
            new Thread(() => WorkerLoop(worker, index))
            {
                IsBackground = true,
                Name = "engine-cpu-" + (index + 1).ToString(),
            }.Start();
        }
    }

    private void WorkerLoop(Worker worker, int index)
    {
        int seen = 0;
        while (true)
        {
            seen = WaitForEpoch(worker, seen);
            Interlocked.Increment(ref _shared.Active);
            if (Volatile.Read(ref _shared.Open) != 0 && index < _shared.Helpers)
            {
                RunTasks(_job!);
            }

            Interlocked.Decrement(ref _shared.Active);
        }
    }

    private int WaitForEpoch(Worker worker, int seen)
    {
        // With more threads than cores a spinning worker would keep a working one off its core.
        bool spin = Volatile.Read(ref _shared.Helpers) < Environment.ProcessorCount;
        long start = spin ? Stopwatch.GetTimestamp() : 0;
        while (true)
        {
            int epoch = Volatile.Read(ref _shared.Epoch);
            if (epoch != seen)
            {
                return epoch;
            }

            if (spin && Stopwatch.GetTimestamp() - start < s_spinTicks)
            {
                Thread.SpinWait(4);
                continue;
            }

            worker.Sleep(ref _shared.Epoch, seen);
        }
    }

    /// <summary>What caller and workers poll: each on its own pair of cache lines.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 640)]
    private struct Shared
    {
        [FieldOffset(128)]
        public int Epoch;

        [FieldOffset(256)]
        public int Active;

        [FieldOffset(384)]
        public int Open;

        [FieldOffset(512)]
        public int Helpers;
    }

    private sealed class Worker
    {
        private readonly object _gate = new();
        private int _sleeping;

        public void Wake()
        {
            if (Volatile.Read(ref _sleeping) != 0)
            {
                lock (_gate)
                {
                    _sleeping = 0;
                    Monitor.Pulse(_gate);
                }
            }
        }

        /// <summary>Sleeps until woken, unless the epoch moves on before the sleep is announced.</summary>
        public void Sleep(ref int epoch, int seen)
        {
            lock (_gate)
            {
                // Full fence: the caller moves the epoch, then reads the flag; we raise the flag, then read the epoch.
                Interlocked.Exchange(ref _sleeping, 1);
                while (_sleeping != 0 && Volatile.Read(ref epoch) == seen)
                {
                    Monitor.Wait(_gate);
                }

                _sleeping = 0;
            }
        }
    }
}
