namespace Engine.Tensors;

/// <summary>
/// Records device work for replay. Between <see cref="Enter"/> and <see cref="Leave"/> storage comes from memory of the
/// recorder's own, so that the addresses recorded stay reserved for the recording.
/// </summary>
public abstract class DeviceRecorder : IDisposable
{
    /// <summary>From now on storage is the recorder's.</summary>
    public abstract void Enter();

    /// <summary>Ends <see cref="Enter"/>; returns the bytes of its storage still in use.</summary>
    public abstract long Leave();

    /// <summary>From now on work is recorded instead of run.</summary>
    public abstract void BeginCapture();

    /// <summary>Ends the recording.</summary>
    public abstract IDeviceGraph EndCapture();

    /// <summary>Ends a recording that failed.</summary>
    public abstract void AbandonCapture();

    /// <summary>Gives the memory back; no recording may be launched afterwards.</summary>
    public abstract void Dispose();
}

/// <summary>Recorded device work.</summary>
public interface IDeviceGraph : IDisposable
{
    /// <summary>Kernels, copies and fills in it.</summary>
    int Nodes { get; }

    /// <summary>Queues the work.</summary>
    void Launch();
}

/// <summary>Ends <see cref="Device.Durable"/> when disposed.</summary>
public readonly ref struct DurableScope
{
    private readonly Device _device;
    private readonly object? _arena;

    internal DurableScope(Device device, object? arena) => (_device, _arena) = (device, arena);

    /// <summary>Storage is the recorder's again, if there is one.</summary>
    public void Dispose() => _device.EndDurable(_arena);
}
