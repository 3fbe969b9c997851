using System.Runtime.CompilerServices;

namespace Engine.Tensors.Tests;

/// <summary>Many threads on one device: no block has two holders, no share is lost, nothing is freed twice.</summary>
[Trait("Device", "Cpu")]
public sealed class ConcurrencyTests : IDisposable
{
    private const int ThreadCount = 8;

    private readonly CpuDevice _device = new();

    public void Dispose()
    {
        Assert.Equal(0, _device.LiveStorages);
        Assert.Equal(0, _device.LiveBytes);
        _device.Trim();
    }

    [Fact]
    public void Threads_that_rent_and_return_never_share_a_block()
    {
        int overlaps = 0;
        InParallel(thread =>
        {
            var random = new Random(thread);
            var held = new Queue<(Tensor Tensor, int Mark)>();
            for (int i = 0; i < 3000; i++)
            {
                // Few size classes, so that blocks pass from thread to thread.
                int mark = (thread * 1_000_000) + i;
                Tensor tensor = Tensor.Empty([16 << random.Next(4)], DType.I32, _device);
                tensor.Span<int>().Fill(mark);
                held.Enqueue((tensor, mark));
                if (held.Count > 4)
                {
                    Drop(held.Dequeue());
                }

                if (i % 1000 == 0)
                {
                    _device.Trim();
                }
            }

            while (held.TryDequeue(out (Tensor, int) next))
            {
                Drop(next);
            }
        });
        Assert.Equal(0, overlaps);

        // Five tensors of at most 128 elements are held by each thread at a time.
        Assert.InRange(_device.PeakBytes, 64, ThreadCount * 5 * 128 * sizeof(int));

        void Drop((Tensor Tensor, int Mark) held)
        {
            if (held.Tensor.Span<int>().ContainsAnyExcept(held.Mark))
            {
                Interlocked.Increment(ref overlaps);
            }

            held.Tensor.Dispose();
        }
    }

    [Fact]
    public void Retain_and_release_lose_no_share()
    {
        using Tensor tensor = Tensor.From([42], [1], _device);
        InParallel(_ =>
        {
            for (int i = 0; i < 20_000; i++)
            {
                using Tensor share = tensor.Share();
                if (share.Span<int>()[0] != 42)
                {
                    throw new InvalidOperationException("a share saw other memory");
                }
            }
        });
        Assert.Equal(1, tensor.Storage.Owners);
    }

    [Fact]
    public void A_retain_that_races_with_the_last_release_wins_or_is_refused()
    {
        var storages = new StrongBox<Storage>[2000];
        for (int i = 0; i < storages.Length; i++)
        {
            storages[i] = new StrongBox<Storage>(_device.Allocate(64));
        }

        int refused = 0;
        using var barrier = new Barrier(4);
        InParallel(4, thread =>
        {
            foreach (StrongBox<Storage> storage in storages)
            {
                barrier.SignalAndWait();
                if (thread == 0)
                {
                    storage.Value!.Release();
                    continue;
                }

                try
                {
                    storage.Value!.Retain();
                    Assert.NotEqual(0, storage.Value.Pointer);
                    storage.Value.Release();
                }
                catch (ObjectDisposedException)
                {
                    Interlocked.Increment(ref refused);
                }
            }
        });

        // Whoever came last, each block went back exactly once: 64 bytes each in the pool.
        Assert.Equal(0, _device.LiveStorages);
        Assert.Equal(64 * storages.Length, _device.CachedBytes);
        Assert.All(storages, storage => Assert.Equal(0, storage.Value!.Owners));
        Assert.InRange(refused, 0, 3 * storages.Length);
    }

    [Fact]
    public void Threads_that_dispose_one_tensor_give_back_one_share()
    {
        for (int round = 0; round < 200; round++)
        {
            Tensor tensor = Tensor.Empty([1], DType.F32, _device);
            using Tensor other = tensor.Share();
            InParallel(2, _ => tensor.Dispose());
            Assert.Equal(1, other.Storage.Owners);
        }
    }

    private static void InParallel(Action<int> body) => InParallel(ThreadCount, body);

    private static void InParallel(int threads, Action<int> body) =>
        Task.WaitAll([.. Enumerable.Range(0, threads).Select(thread =>
            Task.Factory.StartNew(() => body(thread), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default))]);
}
