using Engine.Tensors;

namespace Engine.Kernels;

/// <summary>
/// The adapters of one linear that the rows of a batch may use, up to <see cref="MostAdapters"/> of mixed ranks, some without
/// a layer in this linear. Takes shares of the adapters' tensors. On a GPU the table lies in device memory, and for 16-bit
/// activations it holds copies of A and B in their dtype, made once: they halve what a decoding step reads.
/// </summary>
/// <remarks>The copies follow a change of A and B with <see cref="Refresh"/> only.</remarks>
public sealed class AdapterTable : IDisposable
{
    /// <summary>Most adapters of a table.</summary>
    public const int MostAdapters = 256;

    /// <summary>Largest rank.</summary>
    public const int MostRank = 256;

    private readonly GroupedAdapter?[] _adapters;
    private readonly AdapterTableCuda? _cuda;
    private bool _isDisposed;

    private AdapterTable(GroupedAdapter?[] adapters, DType activations, Device device, int inputs, int outputs)
    {
        (Activations, Device, Inputs, Outputs) = (activations, device, inputs, outputs);
        _adapters = [.. adapters.Select(a => a is { } layer ? new GroupedAdapter(layer.A.Share(), layer.B.Share(), layer.Scale) : a)];
        Rank = adapters.Max(a => a?.A.Shape[0] ?? 0);
        try
        {
            _cuda = device.Kind == DeviceKind.Cuda ? new AdapterTableCuda(this) : null;
        }
        catch
        {
            Release();
            throw;
        }
    }

    /// <summary>Number of adapters, those without a layer included.</summary>
    public int Count => _adapters.Length;

    /// <summary>The largest rank.</summary>
    public int Rank { get; }

    /// <summary>K.</summary>
    public int Inputs { get; }

    /// <summary>N.</summary>
    public int Outputs { get; }

    /// <summary>Dtype of the activations that the table serves.</summary>
    public DType Activations { get; }

    /// <summary>Where everything is.</summary>
    public Device Device { get; }

    internal AdapterTableCuda Cuda => _cuda!;

    /// <summary>An adapter's layer, or null where it has none.</summary>
    public GroupedAdapter? this[int index] => _adapters[index];

    /// <summary>Makes a table; not within recorded work.</summary>
    /// <param name="adapters">Adapters by index, null for one without a layer here; one at least has one. On a GPU f32.</param>
    /// <param name="activations">Dtype of x and y.</param>
    /// <exception cref="ArgumentException">Too many adapters, none, or shapes, dtypes, devices or layouts that do not fit.</exception>
    /// <exception cref="NotSupportedException">The device does not compute in these dtypes.</exception>
    public static AdapterTable Create(IReadOnlyList<GroupedAdapter?> adapters, DType activations)
    {
        const string Op = "AdapterTable.Create";
        ArgumentNullException.ThrowIfNull(adapters);
        if (adapters.Count > MostAdapters || adapters.FirstOrDefault(a => a is not null) is not { } model)
        {
            throw new ArgumentException(
                $"{Op}: {adapters.Count} adapters, {adapters.Count(a => a is not null)} of them with a layer; a table takes up to {MostAdapters}, one at least with a layer",
                nameof(adapters));
        }

        int inputs = Check.Columns(model.A);
        int outputs = checked((int)Check.Rows(model.B));
        foreach (GroupedAdapter? entry in adapters)
        {
            if (entry is not { } adapter)
            {
                continue;
            }

            Check.Float(Op, adapter.A);
            Check.Float(Op, adapter.B);
            Check.SameDevice(Op, adapter.A, model.A);
            Check.SameDevice(Op, adapter.B, model.A);
            Check.Rank(Op, adapter.A, 2);
            int rank = adapter.A.Shape[0];
            if (rank > MostRank)
            {
                Check.Throw(Op, nameof(adapters), $"has to have at most {MostRank} rows, its rank", adapter.A);
            }

            if ((adapter.A.DType == DType.F64) != (activations == DType.F64) || (adapter.B.DType == DType.F64) != (activations == DType.F64))
            {
                Check.Throw(Op, nameof(adapters), "has to be f64 when and only when the activations are", adapter.A);
            }

            Check.Shaped(Op, adapter.A, [rank, inputs]);
            Check.Shaped(Op, adapter.B, [outputs, rank]);
        }

        return new AdapterTable([.. adapters], activations, model.A.Device, inputs, outputs);
    }

    /// <summary>
    /// Copies A and B again where the table holds copies: before a forward pass of adapters that are being trained. One
    /// launch, may be recorded.
    /// </summary>
    public void Refresh() => _cuda?.Refresh();

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_isDisposed)
        {
            _isDisposed = true;
            _cuda?.Dispose();
            Release();
        }
    }

    private void Release()
    {
        foreach (GroupedAdapter? adapter in _adapters)
        {
            adapter?.A.Dispose();
            adapter?.B.Dispose();
        }
    }
}
