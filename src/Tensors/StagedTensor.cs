namespace Engine.Tensors;

/// <summary>
/// A contiguous device tensor with its twin in host memory, for values that cross every step: the host fills
/// <see cref="Host{T}"/> and calls <see cref="Upload"/>, or calls <see cref="Download"/> and reads it after the device was
/// waited for. Neither allocates. The host's side must not be touched while a copy is under way.
/// </summary>
public sealed class StagedTensor : IDisposable
{
    private readonly HostMemory _host;

    /// <summary>Makes both; their content is undefined.</summary>
    public StagedTensor(Shape shape, DType dtype, Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        using DurableScope durable = device.Durable();
        using var made = new Tentative();
        Tensor = made.Add(Tensor.Empty(shape, dtype, device));
        _host = device.AllocateHost(Tensor.ByteLength);
        made.Keep();
    }

    /// <summary>The device's side.</summary>
    public Tensor Tensor { get; }

    /// <summary>The host's side.</summary>
    public Span<T> Host<T>()
        where T : unmanaged => _host.Span<T>()[..(int)Tensor.Elements];

    /// <summary>Queues the copy to the device.</summary>
    public void Upload() => Tensor.Device.Upload(_host, Tensor.Pointer, Tensor.ByteLength);

    /// <summary>Queues the copy to the host.</summary>
    public void Download() => Tensor.Device.Download(Tensor.Pointer, _host, Tensor.ByteLength);

    /// <inheritdoc/>
    public void Dispose()
    {
        Tensor.Dispose();
        _host.Dispose();
    }
}
