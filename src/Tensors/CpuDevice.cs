using System.Runtime.InteropServices;

namespace Engine.Tensors;

/// <summary>
/// The host processor. Memory is 64-byte aligned and pooled by size class, so that a training step after the first
/// takes nothing from the system. <see cref="Device.Cpu"/> is the shared instance; a test that counts leaks makes its own.
/// </summary>
public sealed class CpuDevice : Device
{
    private const int Alignment = 64;

    private readonly Lock _lock = new();
    private readonly Dictionary<long, Stack<nint>> _free = [];
    private long _cachedBytes;

    /// <inheritdoc/>
    public override DeviceKind Kind => DeviceKind.Cpu;

    /// <inheritdoc/>
    public override string Name => "cpu";

    /// <summary>Bytes kept for reuse.</summary>
    public long CachedBytes
    {
        get
        {
            lock (_lock)
            {
                return _cachedBytes;
            }
        }
    }

    /// <inheritdoc/>
    public override void Synchronize()
    {
        // Kernels on the host have finished when their call returns.
    }

    /// <inheritdoc/>
    public override unsafe void CopyFromHost(ReadOnlySpan<byte> source, nint destination) =>
        source.CopyTo(new Span<byte>((void*)destination, source.Length));

    /// <inheritdoc/>
    public override unsafe void CopyToHost(nint source, Span<byte> destination) =>
        new ReadOnlySpan<byte>((void*)source, destination.Length).CopyTo(destination);

    /// <inheritdoc/>
    public override unsafe void Copy(nint source, nint destination, long byteLength) =>
        NativeMemory.Copy((void*)source, (void*)destination, checked((nuint)byteLength));

    /// <inheritdoc/>
    public override unsafe void Clear(nint destination, long byteLength) =>
        NativeMemory.Clear((void*)destination, checked((nuint)byteLength));

    /// <inheritdoc/>
    public override unsafe void Trim()
    {
        lock (_lock)
        {
            foreach (Stack<nint> stack in _free.Values)
            {
                while (stack.TryPop(out nint pointer))
                {
                    NativeMemory.AlignedFree((void*)pointer);
                }
            }

            _cachedBytes = 0;
        }
    }

    /// <inheritdoc/>
    protected override nint Rent(long byteLength)
    {
        long size = SizeClass(byteLength);
        lock (_lock)
        {
            if (_free.TryGetValue(size, out Stack<nint>? stack) && stack.TryPop(out nint pointer))
            {
                _cachedBytes -= size;
                return pointer;
            }
        }

        if (TryAllocate(size, out nint fresh))
        {
            return fresh;
        }

        // Blocks kept for other sizes may be what is missing.
        Trim();
        return TryAllocate(size, out fresh)
            ? fresh
            : throw new EngineDataException(
                $"out of memory: {byteLength:N0} bytes more were asked for with {LiveBytes:N0} bytes in use; " +
                "a smaller batch size, a shorter maximum length or gradient checkpointing needs less");
    }

    /// <inheritdoc/>
    protected override void Return(nint pointer, long byteLength)
    {
        long size = SizeClass(byteLength);
        lock (_lock)
        {
            if (!_free.TryGetValue(size, out Stack<nint>? stack))
            {
                stack = new Stack<nint>();
                _free.Add(size, stack);
            }

            stack.Push(pointer);
            _cachedBytes += size;
        }
    }

    private static unsafe bool TryAllocate(long size, out nint pointer)
    {
        pointer = 0;
        try
        {
            pointer = (nint)NativeMemory.AlignedAlloc((nuint)size, Alignment);
            return true;
        }
        catch (OutOfMemoryException)
        {
            return false;
        }
    }

    // Eight classes per power of two: at most 12.5% of a block is unused.
    private static long SizeClass(long byteLength)
    {
        long bytes = Math.Max(byteLength, Alignment);
        long step = Math.Max(Alignment, (long)(System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)bytes) >> 4));

        // A request next to 2⁶³ stays as it is: it is refused all the same, and rounded up it would be negative.
        return bytes > long.MaxValue - step ? bytes : (bytes + step - 1) / step * step;
    }
}
