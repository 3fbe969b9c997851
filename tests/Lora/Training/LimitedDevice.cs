using System.Runtime.InteropServices;
using Engine.Tensors;

namespace Engine.Lora.Tests;

/// <summary>The host's processor with as much memory as the test says.</summary>
internal sealed unsafe class LimitedDevice : Device
{
    public long Limit { get; set; } = long.MaxValue;

    /// <summary>Allocations until one is refused.</summary>
    public int FailAfter { get; set; } = int.MaxValue;

    public override DeviceKind Kind => DeviceKind.Cpu;

    public override string Name => "limited";

    public override void Synchronize()
    {
    }

    public override void CopyFromHost(ReadOnlySpan<byte> source, nint destination) =>
        source.CopyTo(new Span<byte>((void*)destination, source.Length));

    public override void CopyToHost(nint source, Span<byte> destination) =>
        new ReadOnlySpan<byte>((void*)source, destination.Length).CopyTo(destination);

    public override void Copy(nint source, nint destination, long byteLength) =>
        NativeMemory.Copy((void*)source, (void*)destination, (nuint)byteLength);

    public override void Clear(nint destination, long byteLength) => NativeMemory.Clear((void*)destination, (nuint)byteLength);

    public override void Trim()
    {
    }

    protected override nint Rent(long byteLength) => LiveBytes + byteLength <= Limit && FailAfter-- > 0
        ? (nint)NativeMemory.AlignedAlloc((nuint)Math.Max(1, byteLength), 64)
        : throw new DeviceOutOfMemoryException(Name, byteLength, Math.Max(0, Limit - LiveBytes), Limit, LiveBytes);

    protected override void Return(nint pointer, long byteLength) => NativeMemory.AlignedFree((void*)pointer);
}
