using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;

namespace Engine.Transformer.Safetensors;

/// <summary>A run of bytes at a fixed address: a mapped file or a pinned array.</summary>
internal sealed unsafe class MappedBytes : IDisposable
{
    private readonly MemoryMappedFile? _map;
    private readonly MemoryMappedViewAccessor? _view;
    private GCHandle _pin;

    private MappedBytes(MemoryMappedFile map, MemoryMappedViewAccessor view, long length)
    {
        _map = map;
        _view = view;
        Length = length;
        byte* pointer = null;
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
        Pointer = pointer + view.PointerOffset;
    }

    private MappedBytes(byte[] bytes)
    {
        _pin = GCHandle.Alloc(bytes, GCHandleType.Pinned);
        Pointer = (byte*)_pin.AddrOfPinnedObject();
        Length = bytes.Length;
    }

    public byte* Pointer { get; private set; }

    public long Length { get; }

    public static MappedBytes Pin(byte[] bytes) => new(bytes);

    /// <summary>Maps a file of at least one byte read-only.</summary>
    public static MappedBytes Map(FileStream file)
    {
        long length = file.Length;
        var map = MemoryMappedFile.CreateFromFile(
            file, mapName: null, capacity: 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: false);
        try
        {
            return new MappedBytes(map, map.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read), length);
        }
        catch
        {
            map.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        if (Pointer is null)
        {
            return;
        }

        Pointer = null;
        if (_pin.IsAllocated)
        {
            _pin.Free();
        }

        if (_view is not null)
        {
            _view.SafeMemoryMappedViewHandle.ReleasePointer();
            _view.Dispose();
            _map!.Dispose();
        }
    }
}
