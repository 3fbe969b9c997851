namespace Engine.Tensors.Tests;

[Trait("Device", "Cpu")]
public sealed class CpuDeviceTests : IDisposable
{
    private readonly CpuDevice _device = new();

    public void Dispose()
    {
        Assert.Equal(0, _device.LiveStorages);
        Assert.Equal(0, _device.LiveBytes);
        _device.Trim();
        Assert.Equal(0, _device.CachedBytes);
    }

    [Fact]
    public void The_shared_device_is_the_host()
    {
        Assert.Same(Device.Cpu, Device.Cpu);
        Assert.Equal(DeviceKind.Cpu, Device.Cpu.Kind);
        Assert.Equal("cpu", Device.Cpu.ToString());
        Device.Cpu.Synchronize();
    }

    [Fact]
    public unsafe void Blocks_are_aligned_and_wholly_usable()
    {
        var storages = new List<Storage>();
        for (int exponent = 0; exponent < 21; exponent++)
        {
            foreach (int length in new[] { (1 << exponent) - 1, 1 << exponent, (1 << exponent) + 1, (1 << exponent) * 9 / 8 })
            {
                Storage storage = _device.Allocate(length);
                Assert.Equal(0, storage.Pointer % 64);
                new Span<byte>((void*)storage.Pointer, length).Fill((byte)storages.Count);
                storages.Add(storage);
            }
        }

        // Each block still holds what was written to it: none overlaps another.
        for (int i = 0; i < storages.Count; i++)
        {
            var bytes = new ReadOnlySpan<byte>((void*)storages[i].Pointer, (int)storages[i].ByteLength);
            Assert.Equal(-1, bytes.IndexOfAnyExcept((byte)i));
            storages[i].Release();
        }
    }

    [Fact]
    public void A_returned_block_is_used_again_for_its_size_class()
    {
        Storage first = _device.Allocate(1000);
        nint pointer = first.Pointer;
        first.Release();
        long cached = _device.CachedBytes;
        Assert.InRange(cached, 1000, 1125);

        // 1000 rounds up to 1024 with eight classes between 512 and 1024.
        Storage same = _device.Allocate(1020);
        Assert.Equal(pointer, same.Pointer);
        Assert.Equal(0, _device.CachedBytes);
        Storage other = _device.Allocate(1020);
        Assert.NotEqual(pointer, other.Pointer);
        same.Release();

        // Another class leaves the block alone.
        Storage larger = _device.Allocate(4000);
        Assert.NotEqual(pointer, larger.Pointer);
        Assert.Equal(cached, _device.CachedBytes);
        other.Release();
        larger.Release();
        Assert.InRange(_device.CachedBytes, 6000, 6000 * 9 / 8);
    }

    [Fact]
    public void At_most_an_eighth_of_a_large_block_is_unused()
    {
        var random = new Random(2);
        for (int i = 0; i < 300; i++)
        {
            // Below 512 bytes the alignment decides: up to 63 bytes more.
            int length = random.Next(512, 1 << 18);
            _device.Allocate(length).Release();
            Assert.InRange(_device.CachedBytes, length, length * 9L / 8);
            _device.Trim();
        }
    }

    [Fact]
    public void Trim_gives_the_cache_back_and_leaves_what_is_in_use()
    {
        using Tensor kept = Tensor.From([1, 2, 3], [3], _device);
        for (int i = 0; i < 10; i++)
        {
            _device.Allocate(1 << i).Release();
        }

        Assert.True(_device.CachedBytes > 0);
        _device.Trim();
        Assert.Equal(0, _device.CachedBytes);
        Assert.Equal([1, 2, 3], kept.ToArray<int>());
        _device.Trim();
    }

    [Fact]
    public void Counters_follow_what_is_alive()
    {
        Assert.Equal((0, 0, 0), (_device.LiveStorages, _device.LiveBytes, _device.PeakBytes));
        Storage a = _device.Allocate(1000);
        Storage b = _device.Allocate(500);
        Assert.Equal((2, 1500, 1500), (_device.LiveStorages, _device.LiveBytes, _device.PeakBytes));
        a.Release();
        Assert.Equal((1, 500, 1500), (_device.LiveStorages, _device.LiveBytes, _device.PeakBytes));
        _device.ResetPeak();
        Assert.Equal(500, _device.PeakBytes);
        Storage c = _device.Allocate(100);
        Assert.Equal(600, _device.PeakBytes);
        c.Release();
        b.Release();
        Assert.Equal((0, 0, 600), (_device.LiveStorages, _device.LiveBytes, _device.PeakBytes));
    }

    [Fact]
    public void Views_are_not_counted_again()
    {
        using Tensor tensor = Tensor.Zeros([4, 4], DType.F32, _device);
        using Tensor view = tensor.Slice(0, 1, 2);
        Assert.Equal((1, 64, 64), (_device.LiveStorages, _device.LiveBytes, _device.PeakBytes));
    }

    [Theory]
    [InlineData(1L << 60, "1,152,921,504,606,846,976 bytes")]
    [InlineData(long.MaxValue, "9,223,372,036,854,775,807 bytes")]
    public void Out_of_memory_names_the_bytes_and_frees_the_cache_first(long length, string bytes)
    {
        using Tensor tensor = Tensor.Zeros([500], DType.F32, _device);
        _device.Allocate(4096).Release();
        Assert.True(_device.CachedBytes > 0);
        long peak = _device.PeakBytes;

        // No 64-bit machine has 2⁶⁰ bytes of address space for one process (x86-64 and Arm give 2⁴⁷ to 2⁵⁶): this asks and
        // is refused, and nothing is committed.
        string message = Assert.Throws<EngineDataException>(() => _device.Allocate(length)).Message;
        Assert.Contains(bytes, message);
        Assert.Contains("2,000 bytes in use", message);
        Assert.Equal(0, _device.CachedBytes);
        Assert.Equal((1, 2000, peak), (_device.LiveStorages, _device.LiveBytes, _device.PeakBytes));

        // The device works on.
        using Tensor after = Tensor.Zeros([10], DType.F32, _device);
        Assert.Equal(new float[10], after.ToArray<float>());
    }

    [Fact]
    public void A_tensor_too_large_for_memory_leaves_nothing_behind()
    {
        Assert.Throws<EngineDataException>(() => Tensor.Zeros([1 << 30, 1 << 29], DType.F64, _device));
        Assert.Equal(0, _device.PeakBytes);
    }
}
