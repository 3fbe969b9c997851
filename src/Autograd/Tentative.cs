using Engine.Tensors;

namespace Engine.Autograd;

/// <summary>
/// Tensors that an op makes one after the other. Unless the op gets as far as <see cref="Keep"/> they are disposed, so that
/// an op that runs out of memory in the middle leaves nothing on the device.
/// </summary>
internal sealed class Tentative : IDisposable
{
    private readonly List<Tensor> _made = new(3);

    /// <summary>Adds a tensor and returns it.</summary>
    public Tensor Add(Tensor tensor)
    {
        _made.Add(tensor);
        return tensor;
    }

    /// <summary>Puts a tensor in another one's place, which its owner disposes.</summary>
    public Tensor Replace(Tensor old, Tensor tensor)
    {
        _made.Remove(old);
        return Add(tensor);
    }

    /// <summary>The op is done: the tensors have found their owners.</summary>
    public void Keep() => _made.Clear();

    /// <inheritdoc/>
    public void Dispose() => _made.ForEach(static tensor => tensor.Dispose());
}
