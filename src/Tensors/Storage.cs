namespace Engine.Tensors;

/// <summary>
/// A block of memory on a device with counted owners: every tensor over it holds one share, and the last one to let go
/// returns the block to the device's pool (or lets go of the external owner, for memory that belongs to someone else).
/// </summary>
public sealed class Storage
{
    private readonly IDisposable? _externalOwner;
    private readonly bool _external;
    private nint _pointer;
    private int _owners = 1;

    internal Storage(Device device, nint pointer, long byteLength, IDisposable? externalOwner, bool external = false)
    {
        Device = device;
        ByteLength = byteLength;
        _pointer = pointer;
        _externalOwner = externalOwner;
        _external = external;
    }

    /// <summary>Where the memory is.</summary>
    public Device Device { get; }

    /// <summary>Usable length in bytes.</summary>
    public long ByteLength { get; }

    /// <summary>Number of shares; more than one means that writing in place is seen by others.</summary>
    public int Owners => Volatile.Read(ref _owners);

    /// <summary>Address of the first byte on the device.</summary>
    /// <exception cref="ObjectDisposedException">The last owner has let go.</exception>
    public nint Pointer
    {
        get
        {
            ObjectDisposedException.ThrowIf(Owners <= 0, this);
            return _pointer;
        }
    }

    /// <summary>
    /// Wraps memory that belongs to someone else, such as a mapped file; <paramref name="owner"/> is disposed with the last share.
    /// </summary>
    public static Storage Wrap(Device device, nint pointer, long byteLength, IDisposable? owner) =>
        new(device, pointer, byteLength, owner, external: true);

    /// <summary>Adds a share.</summary>
    /// <exception cref="ObjectDisposedException">The last owner has let go already.</exception>
    public Storage Retain()
    {
        Add(1);
        return this;
    }

    /// <summary>Gives up a share; the last one frees the memory.</summary>
    /// <exception cref="ObjectDisposedException">The last owner has let go already.</exception>
    public void Release()
    {
        if (Add(-1) > 0)
        {
            return;
        }

        if (_external)
        {
            _externalOwner?.Dispose();
        }
        else
        {
            Device.Release(this, _pointer);
        }

        _pointer = 0;
    }

    // The count never leaves zero again: a late Retain must not make dead memory look alive to another thread.
    private int Add(int shares)
    {
        int owners = Owners;
        while (true)
        {
            ObjectDisposedException.ThrowIf(owners <= 0, this);
            int seen = Interlocked.CompareExchange(ref _owners, owners + shares, owners);
            if (seen == owners)
            {
                return owners + shares;
            }

            owners = seen;
        }
    }
}
