using Engine.Tensors.Cuda.Interop;
using static Engine.Tensors.Cuda.CudaException;

namespace Engine.Tensors.Cuda;

/// <summary>Page-locked host memory: the device copies to and from it without a detour and without holding up the host.</summary>
public sealed unsafe class PinnedMemory : IDisposable
{
    private void* _pointer;

    /// <summary>Takes <paramref name="byteLength"/> bytes; the context is current.</summary>
    public PinnedMemory(long byteLength)
    {
        void* pointer;
        Check(CudaDriver.cuMemHostAlloc(&pointer, checked((nuint)Math.Max(byteLength, 1)), 0));
        _pointer = pointer;
        ByteLength = byteLength;
    }

    /// <summary>Length in bytes.</summary>
    public long ByteLength { get; }

    /// <summary>Address of the first byte.</summary>
    /// <exception cref="ObjectDisposedException">It was given back.</exception>
    public nint Pointer
    {
        get
        {
            ObjectDisposedException.ThrowIf(_pointer is null, this);
            return (nint)_pointer;
        }
    }

    /// <summary>The bytes, at most 2³¹ − 1 of them.</summary>
    public Span<byte> Bytes => new((void*)Pointer, checked((int)ByteLength));

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_pointer is not null)
        {
            _ = CudaDriver.cuMemFreeHost(_pointer);
            _pointer = null;
        }
    }
}
