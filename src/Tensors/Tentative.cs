namespace Engine.Tensors;

/// <summary>
/// Tensors that an op or a constructor makes one after the other. Unless it gets as far as <see cref="Keep"/> they are disposed,
/// so that what runs out of memory in the middle leaves nothing on the device.
/// </summary>
public sealed class Tentative : IDisposable
{
    private readonly List<Tensor> _made = new(3);

    /// <summary>Adds a tensor and returns it.</summary>
    public Tensor Add(Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        _made.Add(tensor);
        return tensor;
    }

    /// <summary>Puts a tensor in another one's place, which its owner disposes.</summary>
    public Tensor Replace(Tensor old, Tensor tensor)
    {
        _made.Remove(old);
        return Add(tensor);
    }

    /// <summary>All is done: the tensors have found their owners.</summary>
    public void Keep() => _made.Clear();

    /// <inheritdoc/>
    public void Dispose() => _made.ForEach(static tensor => tensor.Dispose());
}
