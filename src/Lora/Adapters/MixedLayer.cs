using Engine.Autograd;
using Engine.Kernels;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>The layers that a mixed set has in one linear, as a table on the device.</summary>
internal sealed class MixedLayer : IDisposable
{
    private readonly AdapterTable _table;
    private readonly LowRankFactors?[] _factors;
    private readonly bool _trains;
    private readonly float _dropout;
    private readonly int _site;

    private MixedLayer(LoraLayer?[] layers, DType activations, bool trains)
    {
        _table = AdapterTable.Create(
            [.. layers.Select(l => l is null ? (GroupedAdapter?)null : new GroupedAdapter(l.A.Value, l.B.Value, l.Scale))], activations);
        _factors = [.. layers.Select(l => l is null ? (LowRankFactors?)null : new LowRankFactors(l.A, l.B))];
        _trains = trains;
        LoraLayer first = layers.First(l => l is not null)!;
        (_dropout, _site) = (first.Dropout, first.Site);
    }

    /// <summary>The set's layers in a linear, or null when no adapter of it has one.</summary>
    /// <param name="layers">By index in the set; those that are trained have one dropout.</param>
    /// <param name="activations">Dtype of the linear's input.</param>
    /// <param name="trains">A and B change from step to step, and dropout is active while training.</param>
    public static MixedLayer? Create(LoraLayer?[] layers, DType activations, bool trains) =>
        Array.TrueForAll(layers, l => l is null) ? null : new MixedLayer(layers, activations, trains);

    /// <summary>The linear's output with each row's adapter.</summary>
    /// <exception cref="ArgumentException">The rows do not fit the batch or the set.</exception>
    public Variable Forward(Tape tape, BatchContext batch, AdapterRows rows, LinearModule linear, Variable x)
    {
        if (batch.RowAdapters is { } indices)
        {
            AdaptedModel.RequireRowAdapters(indices, batch.Batch, _factors.Length);
        }

        if (_trains)
        {
            _table.Refresh();
        }

        using Variable y = linear.Base(tape, x);
        if (!_trains || !batch.Training || _dropout == 0)
        {
            return tape.GroupedLowRank(y, x, rows, _table, _factors);
        }

        using Variable dropped = tape.Dropout(x, _dropout, batch.Dropout(_site));
        return tape.GroupedLowRank(y, dropped, rows, _table, _factors);
    }

    public void Dispose() => _table.Dispose();
}
