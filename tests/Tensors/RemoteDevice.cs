using System.Runtime.InteropServices;

namespace Engine.Tensors.Tests;

/// <summary>
/// A device that is not the host, as far as a tensor can tell: it answers as CUDA and its memory is reached by copies only.
/// With <paramref name="moves"/> false the copies are counted and no byte moves, so that huge tensors cost no memory.
/// </summary>
internal sealed unsafe class RemoteDevice(bool moves = true) : Device
{
    public override DeviceKind Kind => DeviceKind.Cuda;

    public override string Name => "remote";

    /// <summary>Lengths of the copies from and to the host, in order.</summary>
    public List<int> Copies { get; } = [];

    /// <summary>Bytes from the start of the memory where each copy began.</summary>
    public List<long> Starts { get; } = [];

    public nint First { get; private set; }

    public override void Synchronize()
    {
    }

    public override void CopyFromHost(ReadOnlySpan<byte> source, nint destination)
    {
        Record(source.Length, destination);
        if (moves)
        {
            source.CopyTo(new Span<byte>((void*)destination, source.Length));
        }
    }

    public override void CopyToHost(nint source, Span<byte> destination)
    {
        Record(destination.Length, source);
        if (moves)
        {
            new ReadOnlySpan<byte>((void*)source, destination.Length).CopyTo(destination);
        }
    }

    public override void Copy(nint source, nint destination, long byteLength) =>
        NativeMemory.Copy((void*)source, (void*)destination, (nuint)byteLength);

    public override void Clear(nint destination, long byteLength) => NativeMemory.Clear((void*)destination, (nuint)byteLength);

    public override void Trim()
    {
    }

    protected override nint Rent(long byteLength) => First = (nint)NativeMemory.Alloc((nuint)Math.Max(1, moves ? byteLength : 1));

    protected override void Return(nint pointer, long byteLength) => NativeMemory.Free((void*)pointer);

    private void Record(int length, nint pointer)
    {
        Copies.Add(length);
        Starts.Add(pointer - First);
    }
}
