using Engine.Tensors.Cuda;

namespace Engine.Tensors.Tests.Cuda;

/// <summary>Memory and copies of a GPU.</summary>
[Collection(nameof(CudaCollection))]
public sealed class CudaDeviceTests : IDisposable
{
    private readonly CudaDevice _device = RequireCuda.Device();
    private readonly long _storages;

    public CudaDeviceTests() => _storages = _device.LiveStorages;

    public void Dispose() => Assert.Equal(_storages, _device.LiveStorages);

    [Fact]
    public void The_device_is_shared_and_says_what_it_is()
    {
        Assert.Same(_device, CudaDevice.Get());
        Assert.Equal((DeviceKind.Cuda, "cuda:0"), (_device.Kind, _device.ToString()));
        Assert.Null(CudaContext.WhyUnavailable());
        Assert.True(_device.Context.ComputeCapability >= CudaContext.OldestCapability);
        Assert.True(_device.Context.DriverVersion >= CudaContext.OldestDriver);
        Assert.True(_device.Context.Multiprocessors > 0);
        Assert.NotEqual("", _device.Context.DeviceName);
        (long free, long total) = _device.Context.MemoryInfo();
        Assert.InRange(free, 1, total);
        Assert.Contains("there is no cuda:999", Assert.Throws<EngineDataException>(() => CudaDevice.Get(999)).Message, StringComparison.Ordinal);
        Assert.Same(_device, CudaDevice.Get());
    }

    // The driver's own buffer, pinned pieces, and more of these than there are.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(511)]
    [InlineData((64 << 10) + 1)]
    [InlineData((8 << 20) - 1)]
    [InlineData(8 << 20)]
    [InlineData((33 << 20) + 5)]
    [InlineData((101 << 20) + 3)]
    public void Bytes_come_back_as_they_were_when_they_were_given(int length)
    {
        byte[] bytes = new byte[length];
        new Random(length).NextBytes(bytes);
        byte[] expected = [.. bytes];
        using var memory = new CudaDeviceVariable<byte>(_device, length + 1L);

        // An odd address, and a source that changes as soon as the call is back.
        _device.CopyFromHost(bytes, memory.DevicePointer + 1);
        Array.Clear(bytes);
        _device.CopyToHost(memory.DevicePointer + 1, bytes);
        Assert.True(expected.AsSpan().SequenceEqual(bytes));
    }

    [Fact]
    public void Tensors_move_between_devices()
    {
        float[] values = [.. Enumerable.Range(0, 1_000_003).Select(i => (float)i)];
        using Tensor host = Tensor.From(values, [values.Length], Device.Cpu);
        using Tensor there = host.To(_device);
        using Tensor copy = there.Clone();
        using Tensor back = copy.To(Device.Cpu);
        Assert.Equal(values, back.ToArray<float>());
        using Tensor slice = there.Slice(0, 5, 3);
        Assert.Equal([5f, 6, 7], slice.ToArray<float>());
        copy.Clear();
        Assert.DoesNotContain(copy.ToArray<float>(), v => v != 0);
        Assert.Equal(values, there.ToArray<float>());
        Assert.Throws<InvalidOperationException>(() => there.Span<float>());
    }

    [Fact]
    public void Copies_and_clears_of_odd_ranges_touch_nothing_else()
    {
        using var memory = new CudaDeviceVariable<byte>(_device, 1000);
        memory.CopyToDevice([.. Enumerable.Repeat((byte)7, 1000)]);
        _device.Clear(memory.DevicePointer + 3, 5);
        _device.Copy(memory.DevicePointer + 1, memory.DevicePointer + 501, 11);
        _device.Copy(memory.DevicePointer, memory.DevicePointer + 900, 0);
        _device.Clear(memory.DevicePointer + 900, 0);
        byte[] bytes = new byte[1000];
        memory.CopyToHost(bytes);
        Assert.Equal(
            [3, 4, 5, 6, 7, 503, 504, 505, 506, 507], Enumerable.Range(0, 1000).Where(i => bytes[i] == 0));
        Assert.Equal(990, bytes.Count(b => b == 7));
    }

    [Fact]
    public void Pinned_memory_is_copied_both_ways()
    {
        using HostMemory up = _device.AllocateHost(400_001);
        using HostMemory down = _device.AllocateHost(400_001);
        using var memory = new CudaDeviceVariable<byte>(_device, 400_001);
        new Random(3).NextBytes(up.Span<byte>());
        _device.Upload(up, memory.DevicePointer, 400_001);
        _device.Download(memory.DevicePointer, down, 400_001);
        _device.Synchronize();
        Assert.True(up.Span<byte>().SequenceEqual(down.Span<byte>()));
        var pinned = new PinnedMemory(16);
        pinned.Bytes.Fill(1);
        pinned.Dispose();
        pinned.Dispose();
        Assert.Throws<ObjectDisposedException>(() => pinned.Pointer);
    }

    [Fact]
    public void Staged_values_go_to_the_device_and_back()
    {
        using var staged = new StagedTensor([3], DType.I32, _device);
        new[] { 4, 5, 6 }.CopyTo(staged.Host<int>());
        staged.Upload();
        Assert.Equal([4, 5, 6], staged.Tensor.ToArray<int>());
        staged.Tensor.CopyFrom<int>([1, 2, 3]);
        staged.Download();
        _device.Synchronize();
        Assert.Equal([1, 2, 3], staged.Host<int>().ToArray());
    }

    [Fact]
    public void A_variable_checks_lengths_and_its_life()
    {
        var variable = new CudaDeviceVariable<double>(_device, 3);
        Assert.Throws<ArgumentOutOfRangeException>(() => variable.CopyToDevice(new double[4]));
        Assert.Throws<ArgumentOutOfRangeException>(() => variable.CopyToHost(new double[4]));
        variable.Dispose();
        variable.Dispose();
        Assert.Throws<ObjectDisposedException>(() => variable.DevicePointer);
    }

    [Fact]
    public void Events_measure_and_are_waited_for()
    {
        _device.Context.MakeCurrent();
        using var start = new CudaEvent(timing: true);
        using var end = new CudaEvent(timing: true);
        using var memory = new CudaDeviceVariable<byte>(_device, 64 << 20);
        using var other = new CudaStream();
        start.Record(_device.Stream);
        for (int i = 0; i < 10; i++)
        {
            _device.Clear(memory.DevicePointer, memory.Length);
        }

        end.Record(_device.Stream);
        other.Wait(end);
        other.Synchronize();
        end.Synchronize();

        // 640 MiB at no more than 100 TB/s.
        Assert.InRange(end.MillisecondsSince(start), 0.006f, 1000f);
    }

    [Fact]
    public void Warm_allocations_ask_the_driver_for_nothing()
    {
        _device.Trim();
        Use();
        long calls = _device.DriverAllocations;
        long reserved = _device.ReservedBytes;
        for (int i = 0; i < 10; i++)
        {
            Use();
        }

        Assert.Equal(calls, _device.DriverAllocations);
        Assert.Equal(reserved, _device.ReservedBytes);
        Assert.True(_device.PeakReservedBytes >= reserved);

        void Use()
        {
            using Tensor a = Tensor.Empty([1000, 1000], DType.F32, _device);
            using Tensor b = Tensor.Empty([10], DType.F32, _device);
            using Tensor c = Tensor.Empty([5000, 1000], DType.F32, _device);
        }
    }

    [Fact]
    public void Out_of_memory_is_an_error_that_the_device_survives()
    {
        long request = 2 * _device.Context.TotalBytes;
        long live = _device.LiveBytes;
        var error = Assert.Throws<DeviceOutOfMemoryException>(() => _device.Allocate(request));
        Assert.Equal(request, error.Requested);
        Assert.Equal(live, error.Live);
        Assert.InRange(error.Free, 0, error.Total);
        Assert.Contains("out of memory on cuda:0", error.Message, StringComparison.Ordinal);
        Assert.Contains($"{request >> 20:N0} MiB more were asked for", error.Message, StringComparison.Ordinal);
        Assert.Equal(live, _device.LiveBytes);
        using Tensor works = Tensor.From([1, 2, 3], [3], _device);
        Assert.Equal([1, 2, 3], works.ToArray<int>());
    }

    [Fact]
    public void Segments_cached_for_one_size_make_room_for_another()
    {
        _device.Trim();
        (long free, _) = _device.Context.MemoryInfo();
        _device.Allocate(free / 2).Release();
        Assert.True(_device.ReservedBytes >= free / 2);
        _device.Allocate(free / 10 * 7).Release();
        _device.Trim();
        Assert.True(_device.ReservedBytes < free / 2);
    }
}
