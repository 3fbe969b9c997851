namespace Engine.Tensors;

/// <content>Recording, host memory and ranges: what the CPU does without.</content>
public abstract partial class Device
{
    private int _graphGeneration;

    /// <summary>Extents of batches are best rounded up to multiples of this, so that recorded steps serve again; without
    /// recordings too, so that both give the same bits.</summary>
    public virtual int ShapeGranularity => 1;

    /// <summary>Changes whenever something that recorded work refers to has moved; recordings of an older generation are void.</summary>
    public int GraphGeneration => Volatile.Read(ref _graphGeneration);

    /// <summary>Whether anyone listens to ranges.</summary>
    public bool TracesRanges { get; set; }

    /// <summary>Whether steps are recorded at present.</summary>
    public virtual bool CanRecord => false;

    /// <summary>A recorder, or null where work cannot be recorded or shall not be.</summary>
    public virtual DeviceRecorder? CreateRecorder() => null;

    /// <summary>Makes all recordings void: to be called by whoever frees or moves memory that outlives a step.</summary>
    public void InvalidateGraphs() => Interlocked.Increment(ref _graphGeneration);

    /// <summary>Within the scope storage outlives the step that is being recorded, if one is.</summary>
    public virtual DurableScope Durable() => new(this, null);

    /// <summary>Sets 32-bit words to one value.</summary>
    public virtual unsafe void Fill(nint destination, uint word, long words) =>
        new Span<uint>((void*)destination, checked((int)words)).Fill(word);

    /// <summary>Host memory for <see cref="Upload"/> and <see cref="Download"/>.</summary>
    public virtual unsafe HostMemory AllocateHost(long byteLength) => new(
        (nint)System.Runtime.InteropServices.NativeMemory.AlignedAlloc((nuint)Math.Max(byteLength, 1), 64), byteLength, null);

    /// <summary>Queues a copy to the device; the source must not change before the work queued so far is done.</summary>
    public virtual unsafe void Upload(HostMemory source, nint destination, long byteLength)
    {
        ArgumentNullException.ThrowIfNull(source);
        CopyFromHost(new ReadOnlySpan<byte>((void*)source.Pointer, checked((int)byteLength)), destination);
    }

    /// <summary>Queues a copy to the host; the bytes are there after <see cref="Synchronize"/>.</summary>
    public virtual unsafe void Download(nint source, HostMemory destination, long byteLength)
    {
        ArgumentNullException.ThrowIfNull(destination);
        CopyToHost(source, new Span<byte>((void*)destination.Pointer, checked((int)byteLength)));
    }

    /// <summary>Names the work queued until the scope ends, for profilers; costs a comparison when none listens.</summary>
    public RangeScope Range(string name)
    {
        if (!TracesRanges)
        {
            return default;
        }

        PushRange(name);
        return new RangeScope(this);
    }

    /// <summary>Ends <see cref="Durable"/>.</summary>
    protected internal virtual void EndDurable(object? arena)
    {
    }

    /// <summary>Opens a named range.</summary>
    protected virtual void PushRange(string name)
    {
    }

    /// <summary>Closes the innermost range.</summary>
    protected virtual void PopRange()
    {
    }

    /// <summary>Ends <see cref="Range"/> when disposed.</summary>
    public readonly ref struct RangeScope
    {
        private readonly Device? _device;

        internal RangeScope(Device device) => _device = device;

        /// <summary>Closes the range.</summary>
        public void Dispose() => _device?.PopRange();
    }
}
