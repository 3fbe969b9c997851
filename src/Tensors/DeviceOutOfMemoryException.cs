namespace Engine.Tensors;

/// <summary>A device has no memory left for a request. What was allocated before stays valid: the process can go on with less.</summary>
public sealed class DeviceOutOfMemoryException : EngineDataException
{
    /// <summary>Makes the exception.</summary>
    /// <param name="device">The device's name.</param>
    /// <param name="requested">Bytes asked for.</param>
    /// <param name="free">Bytes free on the device.</param>
    /// <param name="total">Bytes the device has.</param>
    /// <param name="live">Bytes in use by this process's tensors.</param>
    public DeviceOutOfMemoryException(string device, long requested, long free, long total, long live)
        : base(
            $"out of memory on {device}: {Megabytes(requested)} more were asked for; {Megabytes(free)} of {Megabytes(total)} are free and " +
            $"{Megabytes(live)} are in use by tensors; a smaller --batch-size or --max-length, or --gradient-checkpointing, needs less")
    {
        (Requested, Free, Total, Live) = (requested, free, total, live);
    }

    /// <summary>Bytes asked for.</summary>
    public long Requested { get; }

    /// <summary>Bytes free on the device.</summary>
    public long Free { get; }

    /// <summary>Bytes the device has.</summary>
    public long Total { get; }

    /// <summary>Bytes in use by this process's tensors.</summary>
    public long Live { get; }

    private static string Megabytes(long bytes) => $"{Math.Max(1, bytes >> 20):N0} MiB";
}
