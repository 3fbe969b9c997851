using Engine.Kernels.Cpu;

namespace Engine.Kernels.Tests.Cpu;

[Collection(nameof(CpuParallel))]
[Trait("Device", "Cpu")]
public sealed class CpuParallelTests : IDisposable
{
    private readonly int _threads = CpuParallel.ThreadCount;

    public void Dispose() => CpuParallel.ThreadCount = _threads;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(7)]
    [InlineData(32)]
    public void Runs_each_index_once_over_many_short_loops(int threads)
    {
        CpuParallel.ThreadCount = threads;
        for (int round = 0; round < 2000; round++)
        {
            int tasks = round % 41;
            var counts = new int[tasks + 1];
            CpuParallel.For(tasks, counts, static (c, i) => Interlocked.Increment(ref c[i]));
            Assert.All(counts.AsSpan(0, tasks).ToArray(), c => Assert.Equal(1, c));
            Assert.Equal(0, counts[tasks]);
        }
    }

    [Fact]
    public void Other_threads_take_part()
    {
        CpuParallel.ThreadCount = 4;
        using var barrier = new Barrier(4);

        // Four tasks that wait for each other end only when four threads run them.
        CpuParallel.For(4, _ => Assert.True(barrier.SignalAndWait(TimeSpan.FromSeconds(30))));
    }

    [Fact]
    public void A_lower_thread_count_is_kept_to()
    {
        CpuParallel.ThreadCount = 8;
        CpuParallel.For(64, _ => Thread.Yield());
        CpuParallel.ThreadCount = 2;
        var threads = new HashSet<int>();
        CpuParallel.For(200, _ =>
        {
            lock (threads)
            {
                threads.Add(Environment.CurrentManagedThreadId);
            }

            Thread.SpinWait(100);
        });
        Assert.InRange(threads.Count, 1, 2);
    }

    [Fact]
    public void A_nested_loop_runs_inline()
    {
        CpuParallel.ThreadCount = 4;
        int total = 0;
        CpuParallel.For(8, _ =>
        {
            Assert.True(CpuParallel.InsideLoop);
            int thread = Environment.CurrentManagedThreadId;
            CpuParallel.For(8, _ =>
            {
                Assert.Equal(thread, Environment.CurrentManagedThreadId);
                Interlocked.Increment(ref total);
            });
        });
        Assert.Equal(64, total);
        Assert.False(CpuParallel.InsideLoop);
    }

    [Fact]
    public void Loops_of_several_callers_do_not_mix()
    {
        CpuParallel.ThreadCount = 4;
        var callers = new Thread[3];
        long[] sums = new long[3];
        for (int c = 0; c < callers.Length; c++)
        {
            int caller = c;
            callers[c] = new Thread(() =>
            {
                for (int round = 0; round < 500; round++)
                {
                    CpuParallel.For(10, i => Interlocked.Add(ref sums[caller], i + 1));
                }
            });
            callers[c].Start();
        }

        foreach (Thread t in callers)
        {
            t.Join();
        }

        Assert.All(sums, s => Assert.Equal(500 * 55, s));
    }

    [Fact]
    public void An_exception_reaches_the_caller_and_the_pool_lives_on()
    {
        CpuParallel.ThreadCount = 4;
        for (int round = 0; round < 50; round++)
        {
            InvalidOperationException e = Assert.Throws<InvalidOperationException>(() => CpuParallel.For(16, i =>
            {
                if (i == 11)
                {
                    throw new InvalidOperationException("task 11");
                }
            }));
            Assert.Equal("task 11", e.Message);
            Assert.False(CpuParallel.InsideLoop);
            int ran = 0;
            CpuParallel.For(16, _ => Interlocked.Increment(ref ran));
            Assert.Equal(16, ran);
        }
    }

    [Theory]
    [InlineData(0, 5)]
    [InlineData(1, 5)]
    [InlineData(5, 5)]
    [InlineData(1003, 10)]
    public void Ranges_are_cut_by_the_grain_alone(long count, long grain)
    {
        foreach (int threads in new[] { 1, 3 })
        {
            CpuParallel.ThreadCount = threads;
            var ranges = new SortedDictionary<long, long>();
            CpuParallel.ForRange(count, grain, (begin, end) =>
            {
                lock (ranges)
                {
                    ranges.Add(begin, end);
                }
            });
            Assert.Equal(CpuParallel.ChunkCount(count, grain), ranges.Count);
            long at = 0;
            foreach ((long begin, long end) in ranges)
            {
                Assert.Equal(at, begin);
                Assert.Equal(Math.Min(begin + grain, count), end);
                at = end;
            }

            Assert.Equal(count, at);
        }
    }

    [Fact]
    public void A_warm_loop_does_not_allocate()
    {
        CpuParallel.ThreadCount = 2;
        var cell = new long[1];
        Loop(cell);
        Assert.Equal(0, Allocated.By(() =>
        {
            for (int i = 0; i < 100; i++)
            {
                Loop(cell);
            }
        }));
        Assert.Equal(301 * 16, cell[0]);

        static void Loop(long[] cell) => CpuParallel.ForRange(16, 2, cell, static (c, begin, end) => Interlocked.Add(ref c[0], end - begin));
    }

    [Fact]
    public void Bad_arguments_are_named()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => CpuParallel.ThreadCount = 0);
        Assert.Throws<ArgumentOutOfRangeException>(() => CpuParallel.ForRange(10, 0, (_, _) => { }));
        Assert.Throws<ArgumentOutOfRangeException>(() => CpuParallel.ForRange(long.MaxValue, 1, (_, _) => { }));
        Assert.Throws<ArgumentNullException>(() => CpuParallel.For(1, null!));
    }
}
