using Engine.Tensors.Cuda;

namespace Engine.Tensors.Tests.Cuda;

/// <summary>The caching allocator over a driver that is made up: no GPU is needed.</summary>
public sealed class CudaPoolTests
{
    private const long Megabyte = 1 << 20;

    private readonly FakeDriver _driver = new();
    private readonly CudaPool _pool;

    public CudaPoolTests() => _pool = new CudaPool(_driver.Allocate, _driver.Free);

    [Fact]
    public void Memory_given_back_is_handed_out_again()
    {
        nint first = _pool.Rent(1000);
        Assert.Equal(1024, _pool.UsedBytes);
        Assert.True(_pool.Return(first));
        Assert.Equal(0, _pool.UsedBytes);
        Assert.Equal(first, _pool.Rent(1024));
        Assert.Equal(1, _driver.Calls);
        Assert.Equal(2 * Megabyte, _pool.ReservedBytes);
        Assert.NotEqual(0, _pool.Rent(0));
    }

    [Fact]
    public void A_segment_is_cut_and_joined_again()
    {
        nint[] quarters = [.. Enumerable.Range(0, 4).Select(_ => _pool.Rent(Megabyte / 2))];
        Assert.Equal(1, _driver.Calls);
        Assert.Equal([0, 1, 2, 3], quarters.Select(p => (p - quarters.Min()) / (Megabyte / 2)).Order());
        foreach (int i in new[] { 1, 3, 0, 2 })
        {
            Assert.True(_pool.Return(quarters[i]));
        }

        // Two halves fit only where the quarters are whole again.
        Assert.Equal(Megabyte, Math.Abs(_pool.Rent(Megabyte) - _pool.Rent(Megabyte)));
        Assert.Equal(1, _driver.Calls);
    }

    [Fact]
    public void Small_blocks_do_not_break_up_large_segments()
    {
        nint large = _pool.Rent(30 * Megabyte);
        Assert.True(_pool.Return(large));
        nint small = _pool.Rent(100);
        Assert.NotEqual(large, small);
        Assert.Equal(2, _driver.Calls);
        Assert.Equal(large, _pool.Rent(30 * Megabyte));
        Assert.Equal(2, _driver.Calls);
    }

    [Fact]
    public void Trim_gives_back_what_is_free_as_a_whole()
    {
        nint kept = _pool.Rent(3 * Megabyte);
        nint gone = _pool.Rent(50 * Megabyte);
        nint small = _pool.Rent(10);
        Assert.Equal(72 * Megabyte, _pool.ReservedBytes);
        Assert.True(_pool.Return(gone));
        Assert.True(_pool.Return(small));
        _pool.Trim();
        Assert.Equal(20 * Megabyte, _pool.ReservedBytes);
        Assert.Equal(20 * Megabyte, _driver.LiveBytes);
        Assert.True(_pool.Return(kept));
        _pool.Trim();
        Assert.Equal(0, _pool.ReservedBytes);
        Assert.Equal(0, _driver.LiveBytes);
        Assert.NotEqual(0, _pool.Rent(3 * Megabyte));
    }

    [Fact]
    public void A_refusal_of_the_driver_changes_nothing()
    {
        nint held = _pool.Rent(100);
        _driver.Limit = _driver.LiveBytes + Megabyte;
        Assert.Equal(0, _pool.Rent(64 * Megabyte));
        Assert.Equal(512, _pool.UsedBytes);
        Assert.NotEqual(0, _pool.Rent(100));
        Assert.True(_pool.Return(held));
        _driver.Limit = long.MaxValue;
        Assert.NotEqual(0, _pool.Rent(64 * Megabyte));
    }

    [Fact]
    public void Memory_of_others_is_not_taken()
    {
        nint pointer = _pool.Rent(100);
        Assert.False(_pool.Return(pointer + 512));
        Assert.True(_pool.Return(pointer));
        Assert.False(_pool.Return(pointer));
    }

    [Fact]
    public void Random_use_never_hands_out_memory_twice()
    {
        var random = new Random(1);
        var held = new List<(nint Pointer, long Length)>();
        for (int i = 0; i < 20_000; i++)
        {
            if (held.Count == 0 || (held.Count < 200 && random.Next(2) == 0))
            {
                long length = (long)Math.Pow(2, random.NextDouble() * 25);
                nint pointer = _pool.Rent(length);
                Assert.Equal(0, pointer % 512);
                Assert.True(_driver.Contains(pointer, length));
                Assert.DoesNotContain(held, h => pointer < h.Pointer + h.Length && h.Pointer < pointer + length);
                held.Add((pointer, length));
            }
            else
            {
                int at = random.Next(held.Count);
                Assert.True(_pool.Return(held[at].Pointer));
                held.RemoveAt(at);
            }

            if (i % 1000 == 999)
            {
                _pool.Trim();
            }

            Assert.True(_pool.UsedBytes >= held.Sum(h => h.Length));
            Assert.Equal(_driver.LiveBytes, _pool.ReservedBytes);
        }

        held.ForEach(h => Assert.True(_pool.Return(h.Pointer)));
        Assert.Equal(0, _pool.UsedBytes);
        _pool.Trim();
        Assert.Equal(0, _driver.LiveBytes);
    }

    [Fact]
    public void A_warm_pool_takes_nothing_from_the_managed_heap()
    {
        nint[] pointers = new nint[40];
        Use();
        Use();
        Assert.Equal(0, Allocated.By(Use));

        void Use()
        {
            for (int i = 0; i < pointers.Length; i++)
            {
                pointers[i] = _pool.Rent(1000 << (i % 14));
            }

            for (int i = 0; i < pointers.Length; i++)
            {
                _pool.Return(pointers[i * 7 % pointers.Length]);
            }
        }
    }

    private sealed class FakeDriver
    {
        private readonly Dictionary<nint, long> _live = [];
        private nint _next = 1 << 21;

        public int Calls { get; private set; }

        public long Limit { get; set; } = long.MaxValue;

        public long LiveBytes => _live.Values.Sum();

        public nint Allocate(long byteLength)
        {
            Calls++;
            if (byteLength > Limit - LiveBytes)
            {
                return 0;
            }

            // A gap, so that blocks of two segments are never neighbours by chance.
            nint pointer = _next;
            _next += (nint)byteLength + (1 << 21);
            _live.Add(pointer, byteLength);
            return pointer;
        }

        public void Free(nint pointer) => Assert.True(_live.Remove(pointer));

        public bool Contains(nint pointer, long length) => _live.Any(s => s.Key <= pointer && pointer + length <= s.Key + s.Value);
    }
}
