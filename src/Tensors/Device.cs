namespace Engine.Tensors;

/// <summary>Families of devices; <c>Kernels</c> chooses an op's implementation by it.</summary>
public enum DeviceKind
{
    /// <summary>The host processor.</summary>
    Cpu,

    /// <summary>An NVIDIA GPU through the CUDA driver.</summary>
    Cuda,
}

/// <summary>
/// Where tensors live: allocates storage from a pool, copies to and from the host, and counts what is alive so that
/// tests can assert that nothing leaks. Work on a device is ordered; <see cref="Synchronize"/> waits for all of it.
/// </summary>
public abstract partial class Device
{
    private long _liveBytes;
    private long _liveStorages;
    private long _peakBytes;

    /// <summary>The host processor's shared device.</summary>
    public static CpuDevice Cpu { get; } = new();

    /// <summary>Which family of kernels serves this device.</summary>
    public abstract DeviceKind Kind { get; }

    /// <summary>A name for people, such as <c>cpu</c> or <c>cuda:0</c>.</summary>
    public abstract string Name { get; }

    /// <summary>
    /// Whether models are best computed in the narrow type (bf16, f16) that they are stored in: the device multiplies narrow
    /// types several times as fast as f32.
    /// </summary>
    public virtual bool PrefersNarrowTypes => false;

    /// <summary>Bytes in storages handed out and not yet released.</summary>
    public long LiveBytes => Interlocked.Read(ref _liveBytes);

    /// <summary>Storages handed out and not yet released: the leak counter.</summary>
    public long LiveStorages => Interlocked.Read(ref _liveStorages);

    /// <summary>The highest <see cref="LiveBytes"/> since <see cref="ResetPeak"/>.</summary>
    public long PeakBytes => Interlocked.Read(ref _peakBytes);

    /// <summary>Starts a new peak measurement at the present <see cref="LiveBytes"/>.</summary>
    public void ResetPeak() => Interlocked.Exchange(ref _peakBytes, LiveBytes);

    /// <summary>Hands out storage of at least <paramref name="byteLength"/> bytes with one owner; its content is undefined.</summary>
    /// <exception cref="EngineDataException">Out of memory.</exception>
    public Storage Allocate(long byteLength)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(byteLength);
        var storage = new Storage(this, Rent(byteLength), byteLength, externalOwner: null);
        Count(byteLength, 1);
        if (_origins is not null)
        {
            Track(storage);
        }

        return storage;
    }

    /// <summary>Waits until all work queued on the device is done.</summary>
    public abstract void Synchronize();

    /// <summary>Copies host bytes to the device.</summary>
    public abstract void CopyFromHost(ReadOnlySpan<byte> source, nint destination);

    /// <summary>Copies device bytes to the host and waits for them.</summary>
    public abstract void CopyToHost(nint source, Span<byte> destination);

    /// <summary>Copies bytes within the device; the ranges do not overlap.</summary>
    public abstract void Copy(nint source, nint destination, long byteLength);

    /// <summary>Sets bytes to zero.</summary>
    public abstract void Clear(nint destination, long byteLength);

    /// <summary>Gives cached free memory back to the system.</summary>
    public abstract void Trim();

    /// <inheritdoc/>
    public override string ToString() => Name;

    internal void Release(Storage storage, nint pointer)
    {
        _origins?.TryRemove(storage, out _);
        Return(pointer, storage.ByteLength);
        Count(-storage.ByteLength, -1);
    }

    /// <summary>Takes memory from the pool or the system.</summary>
    protected abstract nint Rent(long byteLength);

    /// <summary>Gives memory back to the pool.</summary>
    protected abstract void Return(nint pointer, long byteLength);

    private void Count(long bytes, int storages)
    {
        Interlocked.Add(ref _liveStorages, storages);
        long live = Interlocked.Add(ref _liveBytes, bytes);
        long peak = Interlocked.Read(ref _peakBytes);
        while (live > peak)
        {
            long seen = Interlocked.CompareExchange(ref _peakBytes, live, peak);
            if (seen == peak)
            {
                break;
            }

            peak = seen;
        }
    }
}
