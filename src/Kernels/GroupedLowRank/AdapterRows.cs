using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// Which adapter each row of a batch uses: an index into an <see cref="AdapterTable"/>, −1 for none. On a GPU the rows are
/// sorted by adapter there, once a batch; every linear of the model uses the same order. What belongs to one row of the batch
/// are as many neighbouring rows of activations as it has tokens.
/// </summary>
public sealed class AdapterRows : IDisposable
{
    private readonly List<AdapterPlan> _plans = [];

    /// <summary>Puts the indices on a device; not within recorded work.</summary>
    /// <exception cref="ArgumentOutOfRangeException">An index is past any table.</exception>
    public AdapterRows(ReadOnlySpan<int> indices, Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        foreach (int index in indices)
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, AdapterTable.MostAdapters, nameof(indices));
        }

        Indices = Tensor.From(indices.ToArray(), [indices.Length], device);
    }

    /// <summary>Takes indices that are on the device, of which it keeps a share, and that change: <see cref="Update"/>.</summary>
    /// <param name="indices">I32 [rows]; values from 256 on count as −1 on a GPU.</param>
    /// <exception cref="ArgumentException">Not i32, or with gaps.</exception>
    public AdapterRows(Tensor indices)
    {
        Check.Type("AdapterRows", indices, DType.I32);
        Indices = indices.Share();
    }

    /// <summary>Number of rows.</summary>
    public int Count => checked((int)Indices.Elements);

    /// <summary>The indices, I32 [Count].</summary>
    public Tensor Indices { get; }

    /// <summary>Queues the sorting again after the indices have changed on the device; may be recorded.</summary>
    public void Update()
    {
        foreach (AdapterPlan plan in _plans)
        {
            plan.Sort(Indices);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Indices.Dispose();
        _plans.ForEach(p => p.Dispose());
        _plans.Clear();
    }

    /// <summary>The order of the rows for activations of <paramref name="tokens"/> rows each, in tiles; sorted when asked for first.</summary>
    internal AdapterPlan Plan(int tokens, int tile)
    {
        foreach (AdapterPlan known in _plans)
        {
            if (known.Tokens == tokens && known.Tile == tile)
            {
                return known;
            }
        }

        var plan = new AdapterPlan(Count, tokens, tile, Indices.Device);
        _plans.Add(plan);
        plan.Sort(Indices);
        return plan;
    }
}
