using System.Globalization;

namespace Engine.Kernels.Cpu;

/// <summary>
/// The thread pool of the CPU kernels: a parallel loop over task indexes, scheduled dynamically. The calling thread
/// takes part, so <c>n</c> threads are the caller and <c>n − 1</c> workers, which spin briefly between loops because a
/// training step makes thousands of short ones.
/// </summary>
/// <remarks>
/// Which thread runs which index, and in which order, is not defined. A kernel whose tasks are a function of the problem
/// size alone and write disjoint results (or partial sums that the caller then adds in index order) therefore returns
/// the same bits for every thread count; all kernels here are written so. A loop started inside a task, or while another
/// thread's loop is running, runs inline on its caller. A warm loop allocates nothing when <c>body</c> is a static lambda.
/// </remarks>
public static class CpuParallel
{
    /// <summary>Environment variable that sets the initial <see cref="ThreadCount"/>.</summary>
    public const string ThreadsVariable = "ENGINE_THREADS";

    private const int MaxThreads = 1024;

    private static readonly WorkerPool s_pool = new();
    private static int s_threadCount = InitialThreadCount();

    /// <summary>
    /// Number of threads a loop may use, the caller included: at least 1. Initially the environment variable
    /// <c>ENGINE_THREADS</c> when it holds a whole number from 1 to 1024, otherwise <see cref="Environment.ProcessorCount"/>.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value set is not from 1 to 1024.</exception>
    public static int ThreadCount
    {
        get => Volatile.Read(ref s_threadCount);
        set
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(value, 1);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(value, MaxThreads);
            Volatile.Write(ref s_threadCount, value);
        }
    }

    /// <summary>Whether the current thread is running a task of a loop (a loop started here runs inline).</summary>
    public static bool InsideLoop => WorkerPool.InsideLoop;

    /// <summary>Calls <paramref name="body"/> once for each index in [0, <paramref name="tasks"/>) and returns when all are done.</summary>
    /// <param name="tasks">Number of tasks; 1 or fewer never leaves the calling thread.</param>
    /// <param name="body">The task, given its index.</param>
    /// <exception cref="Exception">The first exception a task threw; tasks not yet started are then skipped.</exception>
    public static void For(int tasks, Action<int> body)
    {
        ArgumentNullException.ThrowIfNull(body);
        For(tasks, body, static (action, index) => action(index));
    }

    /// <summary>Calls <paramref name="body"/> once for each index in [0, <paramref name="tasks"/>) and returns when all are done.</summary>
    /// <typeparam name="TState">What the tasks share; a struct of pointers and sizes, usually.</typeparam>
    /// <param name="tasks">Number of tasks; 1 or fewer never leaves the calling thread.</param>
    /// <param name="state">Passed to each task.</param>
    /// <param name="body">The task, given the state and its index. A static lambda keeps the call free of allocation.</param>
    /// <exception cref="Exception">The first exception a task threw; tasks not yet started are then skipped.</exception>
    public static void For<TState>(int tasks, TState state, Action<TState, int> body)
    {
        ArgumentNullException.ThrowIfNull(body);
        int threads = Math.Min(ThreadCount, tasks);
        if (threads <= 1 || !s_pool.TryRun(threads, tasks, state, body))
        {
            for (int index = 0; index < tasks; index++)
            {
                body(state, index);
            }
        }
    }

    /// <summary>
    /// Cuts [0, <paramref name="count"/>) into chunks of <paramref name="grain"/> (the last may be shorter) and calls
    /// <paramref name="body"/> for each [begin, end). The cut depends on the two numbers only, never on the thread count.
    /// </summary>
    /// <param name="count">Number of elements; 0 or fewer calls nothing.</param>
    /// <param name="grain">Elements in a chunk, at least 1; chunk <c>i</c> begins at <c>i · grain</c>.</param>
    /// <param name="body">The task, given begin (inclusive) and end (exclusive).</param>
    /// <exception cref="ArgumentOutOfRangeException">The grain is below 1, or there would be more than 2³¹ − 1 chunks.</exception>
    public static void ForRange(long count, long grain, Action<long, long> body)
    {
        ArgumentNullException.ThrowIfNull(body);
        ForRange(count, grain, body, static (action, begin, end) => action(begin, end));
    }

    /// <summary>
    /// Cuts [0, <paramref name="count"/>) into chunks of <paramref name="grain"/> (the last may be shorter) and calls
    /// <paramref name="body"/> for each [begin, end). The cut depends on the two numbers only, never on the thread count.
    /// </summary>
    /// <typeparam name="TState">What the tasks share.</typeparam>
    /// <param name="count">Number of elements; 0 or fewer calls nothing.</param>
    /// <param name="grain">Elements in a chunk, at least 1; chunk <c>i</c> begins at <c>i · grain</c>.</param>
    /// <param name="state">Passed to each task.</param>
    /// <param name="body">The task, given the state, begin (inclusive) and end (exclusive).</param>
    /// <exception cref="ArgumentOutOfRangeException">The grain is below 1, or there would be more than 2³¹ − 1 chunks.</exception>
    public static void ForRange<TState>(long count, long grain, TState state, Action<TState, long, long> body)
    {
        ArgumentNullException.ThrowIfNull(body);
        int chunks = ChunkCount(count, grain);
        if (chunks == 1)
        {
            body(state, 0, count);
            return;
        }

        For(chunks, new RangeState<TState>(state, body, count, grain), static (range, index) =>
        {
            long begin = index * range.Grain;
            range.Body(range.State, begin, Math.Min(begin + range.Grain, range.Count));
        });
    }

    /// <summary>Number of chunks <see cref="ForRange{TState}"/> makes: ⌈count ⁄ grain⌉; the length of a buffer of partial sums.</summary>
    /// <param name="count">Number of elements.</param>
    /// <param name="grain">Elements in a chunk, at least 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">The grain is below 1, or there would be more than 2³¹ − 1 chunks.</exception>
    public static int ChunkCount(long count, long grain)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(grain, 1);
        if (count <= 0)
        {
            return 0;
        }

        long chunks = ((count - 1) / grain) + 1;
        ArgumentOutOfRangeException.ThrowIfGreaterThan(chunks, int.MaxValue, nameof(count));
        return (int)chunks;
    }

    private static int InitialThreadCount()
    {
        string? text = Environment.GetEnvironmentVariable(ThreadsVariable);
        bool valid = int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int threads)
            && threads is >= 1 and <= MaxThreads;
        return valid ? threads : Math.Min(Environment.ProcessorCount, MaxThreads);
    }

    private readonly record struct RangeState<TState>(TState State, Action<TState, long, long> Body, long Count, long Grain);
}
