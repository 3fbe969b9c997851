using System.Collections.Concurrent;
using Engine.Tensors.Cuda.Interop;
using static Engine.Tensors.Cuda.CudaException;

namespace Engine.Tensors.Cuda;

/// <summary>
/// An NVIDIA GPU. All work runs in order on one stream; memory comes from a caching pool (see <see cref="CudaPool"/>), or,
/// while work is being recorded, from the recorder's own arena. Calls return before the device is done; copies to the
/// host wait. One thread at a time uses a device; while a step is being recorded or warmed up, another one is refused memory.
/// </summary>
public sealed unsafe partial class CudaDevice : Device
{
    /// <summary>Environment variable: <c>1</c> waits after each launch, so that an error names the kernel that caused it.</summary>
    public const string SynchronizeVariable = "ENGINE_CUDA_SYNC";

    /// <summary>Environment variable: <c>1</c> runs every step launch by launch instead of replaying graphs.</summary>
    public const string NoGraphsVariable = "ENGINE_NO_GRAPHS";

    /// <summary>Environment variable: <c>1</c> takes each tensor's memory from the driver, for memory checkers; much slower.</summary>
    public const string NoPoolVariable = "ENGINE_NO_POOL";

    private static readonly ConcurrentDictionary<int, Lazy<CudaDevice>> s_devices = new();

    private readonly Lock _lock = new();
    private readonly CudaPool _pool;
    private readonly CudaUploader _uploader;
    private CudaPool? _arena;

    private CudaDevice(CudaContext context)
    {
        Context = context;
        Stream = new CudaStream();
        SynchronizesLaunches = IsOn(SynchronizeVariable);
        UsesGraphs = !IsOn(NoGraphsVariable) && !SynchronizesLaunches && !IsOn(NoPoolVariable);
        _pool = NewPool();
        _uploader = new CudaUploader(this);
        TracesRanges = Nvtx.IsActive;
    }

    /// <summary>The device's context.</summary>
    public CudaContext Context { get; }

    /// <summary>The stream that all work runs on.</summary>
    public CudaStream Stream { get; }

    /// <summary>Whether each launch is waited for.</summary>
    public bool SynchronizesLaunches { get; }

    /// <summary>Whether steps are recorded and replayed.</summary>
    public bool UsesGraphs { get; set; }

    /// <summary>Times launches while it is set; null otherwise.</summary>
    public CudaProfiler? Profiler { get; internal set; }

    /// <summary>Bytes taken from the driver, cached ones and arenas included.</summary>
    public long ReservedBytes { get; private set; }

    /// <summary>The highest <see cref="ReservedBytes"/>.</summary>
    public long PeakReservedBytes { get; private set; }

    /// <summary>Calls of the driver's allocator so far: a warm step makes none.</summary>
    public long DriverAllocations { get; private set; }

    /// <inheritdoc/>
    public override DeviceKind Kind => DeviceKind.Cuda;

    /// <inheritdoc/>
    public override string Name => $"cuda:{Context.Ordinal}";

    /// <inheritdoc/>
    public override bool PrefersNarrowTypes => true;

    /// <inheritdoc/>
    public override int ShapeGranularity => 64;

    /// <summary>The shared instance of a device; the first call opens it.</summary>
    /// <exception cref="EngineDataException">There is no such device or it cannot be used; the message says why and what to do.</exception>
    public static CudaDevice Get(int ordinal = 0)
    {
        try
        {
            return s_devices.GetOrAdd(ordinal, static n => new Lazy<CudaDevice>(() => new CudaDevice(CudaContext.Open(n)))).Value;
        }
        catch
        {
            // A failure is not kept: the next attempt may find the GPU free or the variable set.
            s_devices.TryRemove(ordinal, out _);
            throw;
        }
    }

    /// <inheritdoc/>
    public override void Synchronize()
    {
        Context.MakeCurrent();
        Stream.Synchronize();
    }

    /// <summary>Waits for what was queued, for disposal: a failure is not reported here, where it would hide the one that led here.</summary>
    public void Settle()
    {
        Context.TryMakeCurrent();
        _ = CudaDriver.cuStreamSynchronize(Stream.Handle);
    }

    /// <inheritdoc/>
    public override void CopyFromHost(ReadOnlySpan<byte> source, nint destination)
    {
        RefuseWhileRecording("a copy from the host");
        Context.MakeCurrent();
        _uploader.Upload(source, destination);
    }

    /// <inheritdoc/>
    public override void CopyToHost(nint source, Span<byte> destination)
    {
        RefuseWhileRecording("a copy to the host");
        if (destination.IsEmpty)
        {
            return;
        }

        Context.MakeCurrent();
        fixed (byte* to = destination)
        {
            Check(CudaDriver.cuMemcpyDtoHAsync_v2(to, source, (nuint)destination.Length, Stream.Handle));
            Stream.Synchronize();
        }
    }

    /// <inheritdoc/>
    public override void Copy(nint source, nint destination, long byteLength)
    {
        if (byteLength > 0)
        {
            Context.MakeCurrent();
            Profiler?.Before("copy", new KernelWork(2 * byteLength));
            Check(CudaDriver.cuMemcpyDtoDAsync_v2(destination, source, (nuint)byteLength, Stream.Handle));
            Profiler?.After();
        }
    }

    /// <inheritdoc/>
    public override void Clear(nint destination, long byteLength)
    {
        if (byteLength > 0)
        {
            Context.MakeCurrent();
            Profiler?.Before("clear", new KernelWork(byteLength));
            Check(CudaDriver.cuMemsetD8Async(destination, 0, (nuint)byteLength, Stream.Handle));
            Profiler?.After();
        }
    }

    /// <inheritdoc/>
    public override void Fill(nint destination, uint word, long words)
    {
        if (words > 0)
        {
            Context.MakeCurrent();
            Check(CudaDriver.cuMemsetD32Async(destination, word, (nuint)words, Stream.Handle));
        }
    }

    /// <inheritdoc/>
    public override void Trim()
    {
        Synchronize();
        lock (_lock)
        {
            TrimPools();
        }
    }

    /// <inheritdoc/>
    public override HostMemory AllocateHost(long byteLength)
    {
        Context.MakeCurrent();
        var memory = new PinnedMemory(byteLength);
        return new HostMemory(memory.Pointer, byteLength, memory);
    }

    /// <inheritdoc/>
    public override void Upload(HostMemory source, nint destination, long byteLength)
    {
        ArgumentNullException.ThrowIfNull(source);
        RefuseWhileRecording("a copy from the host");
        Context.MakeCurrent();
        Check(CudaDriver.cuMemcpyHtoDAsync_v2(destination, (void*)source.Pointer, (nuint)byteLength, Stream.Handle));
    }

    /// <inheritdoc/>
    public override void Download(nint source, HostMemory destination, long byteLength)
    {
        ArgumentNullException.ThrowIfNull(destination);
        Context.MakeCurrent();
        Check(CudaDriver.cuMemcpyDtoHAsync_v2((void*)destination.Pointer, source, (nuint)byteLength, Stream.Handle));
    }

    /// <summary>
    /// Memory for as long as the process lives, such as a library's workspace: apart from the pool, not counted among live
    /// storages.
    /// </summary>
    /// <exception cref="DeviceOutOfMemoryException">There is not enough.</exception>
    public nint Reserve(long byteLength)
    {
        Context.MakeCurrent();
        lock (_lock)
        {
            nint pointer = AllocateSegment(byteLength);
            if (pointer != 0)
            {
                return pointer;
            }
        }

        throw OutOfMemory(byteLength);
    }

    /// <inheritdoc/>
    protected override nint Rent(long byteLength)
    {
        Context.MakeCurrent();
        lock (_lock)
        {
            if (_arena is not null && Environment.CurrentManagedThreadId != _recordingThread)
            {
                throw new InvalidOperationException($"{Name} is recording a step of another thread; one thread at a time may use a device");
            }

            CudaPool pool = _arena ?? _pool;
            nint pointer = pool.Rent(byteLength);
            if (pointer == 0 && !Stream.IsCapturing)
            {
                // Segments cached for other sizes may be what is missing; their last users have to be done.
                Stream.Synchronize();
                TrimPools();
                pointer = pool.Rent(byteLength);
            }

            if (pointer == 0 && !_recorders.Exists(static r => r.IsEntered))
            {
                // As a last resort the memory of recordings, which are made again when they are needed. Not within a step, durable
                // storage included: what it has queued or recorded is in that memory.
                InvalidateGraphs();
                foreach (CudaRecorder recorder in _recorders)
                {
                    recorder.Arena.Trim();
                }

                pointer = pool.Rent(byteLength);
            }

            if (pointer != 0)
            {
                return pointer;
            }
        }

        throw OutOfMemory(byteLength);
    }

    /// <inheritdoc/>
    protected override void Return(nint pointer, long byteLength)
    {
        lock (_lock)
        {
            if (_arena?.Return(pointer) == true || _pool.Return(pointer))
            {
                return;
            }

            foreach (CudaRecorder recorder in _recorders)
            {
                if (recorder.Arena.Return(pointer))
                {
                    return;
                }
            }

            foreach (CudaPool arena in _retiredArenas)
            {
                if (arena.Return(pointer))
                {
                    return;
                }
            }
        }

        throw new InvalidOperationException($"{Name}: memory at 0x{pointer:x} does not belong to the device's pool");
    }

    private DeviceOutOfMemoryException OutOfMemory(long byteLength)
    {
        (long free, long total) = Context.MemoryInfo();
        return new DeviceOutOfMemoryException(Name, byteLength, free, total, LiveBytes);
    }

    private static bool IsOn(string variable) => Environment.GetEnvironmentVariable(variable) is "1";

    private CudaPool NewPool() => new(AllocateSegment, FreeSegment, IsOn(NoPoolVariable));

    private nint AllocateSegment(long byteLength)
    {
        nint pointer;
        CUresult status = CudaDriver.cuMemAlloc_v2(&pointer, (nuint)byteLength);
        if (status == CUresult.OutOfMemory)
        {
            return 0;
        }

        Check(status, "cuMemAlloc(");
        DriverAllocations++;
        ReservedBytes += byteLength;
        PeakReservedBytes = Math.Max(PeakReservedBytes, ReservedBytes);
        _segments.Add(pointer, byteLength);
        return pointer;
    }

    private void FreeSegment(nint pointer)
    {
        Context.MakeCurrent();
        Check(CudaDriver.cuMemFree_v2(pointer));
        _segments.Remove(pointer, out long byteLength);
        ReservedBytes -= byteLength;
    }

    private void TrimPools()
    {
        _pool.Trim();
        foreach (CudaPool arena in _spareArenas)
        {
            arena.Trim();
        }

        foreach (CudaPool arena in _retiredArenas)
        {
            arena.Trim();
        }

        _retiredArenas.RemoveAll(static arena => arena.ReservedBytes == 0);
    }

    private void RefuseWhileRecording(string what)
    {
        if (Stream.IsCapturing)
        {
            throw new InvalidOperationException($"{what} was asked for while a step is being recorded; it would happen once and not in each replay");
        }
    }
}
