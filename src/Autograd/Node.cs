using Engine.Tensors;

namespace Engine.Autograd;

/// <summary>
/// One recorded op: its inputs, the tensors it saved for backward, and how a gradient of its output becomes gradients
/// of its inputs. Saved tensors are shares taken explicitly with <see cref="Save"/> and given back after backward.
/// </summary>
public abstract class Node : IDisposable
{
    private readonly List<Tensor> _saved = [];

    /// <summary>The op's name, as kernels and profiles use it.</summary>
    public abstract string Name { get; }

    /// <summary>Bytes held for backward.</summary>
    public long SavedBytes => _saved.Sum(t => t.ByteLength);

    /// <summary>
    /// Whether backward takes a gradient with gaps between its rows, such as one with a border; others are given a dense copy.
    /// </summary>
    protected internal virtual bool TakesGaps => false;

    internal Variable? Output { get; set; }

    /// <summary>Gives back the saved tensors.</summary>
    public void Dispose()
    {
        foreach (Tensor tensor in _saved)
        {
            tensor.Dispose();
        }

        _saved.Clear();
        GC.SuppressFinalize(this);
    }

    /// <summary>Sends the gradients of the inputs on their way. <paramref name="gradient"/> stays the caller's.</summary>
    protected internal abstract void Backward(Tensor gradient);

    /// <summary>
    /// The same for a gradient that is the node's own: one that hands it on is then not seen to share it, so that whoever gets it
    /// may write there.
    /// </summary>
    protected internal virtual void BackwardOwned(Tensor gradient)
    {
        using (gradient)
        {
            Backward(gradient);
        }
    }

    /// <summary>Takes a share of a tensor until backward has run.</summary>
    protected Tensor Save(Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        Tensor share = tensor.Share();
        _saved.Add(share);
        return share;
    }

    /// <summary>Takes over a tensor made for backward alone.</summary>
    protected Tensor Keep(Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        _saved.Add(tensor);
        return tensor;
    }
}
