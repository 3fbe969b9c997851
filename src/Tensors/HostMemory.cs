using System.Runtime.InteropServices;

namespace Engine.Tensors;

/// <summary>Host memory that a device copies to and from without a detour: pinned for a GPU, plain for the CPU.</summary>
public sealed unsafe class HostMemory : IDisposable
{
    private readonly IDisposable? _owner;
    private nint _pointer;

    internal HostMemory(nint pointer, long byteLength, IDisposable? owner)
    {
        _pointer = pointer;
        ByteLength = byteLength;
        _owner = owner;
    }

    /// <summary>Length in bytes.</summary>
    public long ByteLength { get; }

    /// <summary>Address of the first byte.</summary>
    /// <exception cref="ObjectDisposedException">It was given back.</exception>
    public nint Pointer
    {
        get
        {
            ObjectDisposedException.ThrowIf(_pointer == 0, this);
            return _pointer;
        }
    }

    /// <summary>The memory as elements.</summary>
    public Span<T> Span<T>()
        where T : unmanaged => new((void*)Pointer, checked((int)(ByteLength / sizeof(T))));

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_pointer == 0)
        {
            return;
        }

        if (_owner is null)
        {
            NativeMemory.AlignedFree((void*)_pointer);
        }
        else
        {
            _owner.Dispose();
        }

        _pointer = 0;
    }
}
