namespace Engine.Tensors.Tests;

[Trait("Device", "Cpu")]
public sealed class StorageTests : IDisposable
{
    private readonly CpuDevice _device = new();

    public void Dispose()
    {
        Assert.Equal(0, _device.LiveStorages);
        Assert.Equal(0, _device.LiveBytes);
        _device.Trim();
    }

    [Fact]
    public void The_last_share_frees()
    {
        Storage storage = _device.Allocate(100);
        Assert.Equal(1, storage.Owners);
        Assert.Equal(100, storage.ByteLength);
        Assert.Same(_device, storage.Device);
        Assert.Same(storage, storage.Retain());
        Assert.Equal(2, storage.Owners);
        storage.Release();
        Assert.Equal(1, storage.Owners);
        Assert.NotEqual(0, storage.Pointer);
        Assert.Equal(1, _device.LiveStorages);
        storage.Release();
        Assert.Equal(0, storage.Owners);
        Assert.Equal(0, _device.LiveStorages);
    }

    [Fact]
    public void Use_after_the_last_release_is_refused()
    {
        Storage storage = _device.Allocate(100);
        storage.Release();
        Assert.Throws<ObjectDisposedException>(() => storage.Pointer);
        Assert.Throws<ObjectDisposedException>(storage.Retain);
        Assert.Throws<ObjectDisposedException>(storage.Release);
    }

    [Fact]
    public void Refused_calls_do_not_revive_or_free_twice()
    {
        Storage storage = _device.Allocate(100);
        storage.Release();
        long cached = _device.CachedBytes;
        for (int i = 0; i < 3; i++)
        {
            Assert.Throws<ObjectDisposedException>(storage.Retain);
            Assert.Throws<ObjectDisposedException>(storage.Retain);
            Assert.Throws<ObjectDisposedException>(storage.Release);
            Assert.Throws<ObjectDisposedException>(() => storage.Pointer);
            Assert.Equal(0, storage.Owners);
        }

        Assert.Equal(cached, _device.CachedBytes);
        Assert.Equal(0, _device.LiveStorages);
    }

    [Fact]
    public void A_negative_length_is_refused() =>
        Assert.Throws<ArgumentOutOfRangeException>(() => _device.Allocate(-1));

    [Fact]
    public void An_external_owner_is_disposed_once_with_the_last_share()
    {
        var owner = new Owner();
        var storage = Storage.Wrap(_device, 4096, 64, owner);
        Assert.Equal(4096, storage.Pointer);
        Assert.Equal(0, _device.LiveStorages);
        var tensor = new Tensor(storage, DType.F32, [16], Strides.Contiguous([16]));
        Tensor view = tensor.Slice(0, 4, 4);
        Assert.Equal(4096 + 16, view.Pointer);
        tensor.Dispose();
        Assert.Equal(0, owner.Disposals);
        view.Dispose();
        Assert.Equal(1, owner.Disposals);
        view.Dispose();
        Assert.Throws<ObjectDisposedException>(storage.Release);
        Assert.Throws<ObjectDisposedException>(() => storage.Pointer);
        Assert.Equal(1, owner.Disposals);
        Assert.Equal(0, _device.CachedBytes);
    }

    [Fact]
    public void External_memory_needs_no_owner()
    {
        var storage = Storage.Wrap(_device, 4096, 64, owner: null);
        storage.Release();
        Assert.Throws<ObjectDisposedException>(() => storage.Pointer);
        Assert.Equal(0, _device.CachedBytes);
    }

    private sealed class Owner : IDisposable
    {
        public int Disposals { get; private set; }

        public void Dispose() => Disposals++;
    }
}
