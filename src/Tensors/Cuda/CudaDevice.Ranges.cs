namespace Engine.Tensors.Cuda;

/// <content>Named ranges.</content>
public sealed unsafe partial class CudaDevice
{
    private readonly Stack<string> _ranges = new();

    /// <summary>The names of the open ranges, outermost first, joined by slashes.</summary>
    public string CurrentRange => string.Join('/', _ranges.Reverse());

    /// <inheritdoc/>
    protected override void PushRange(string name)
    {
        _ranges.Push(name);
        Nvtx.Push(name);
    }

    /// <inheritdoc/>
    protected override void PopRange()
    {
        _ranges.TryPop(out _);
        Nvtx.Pop();
    }
}
