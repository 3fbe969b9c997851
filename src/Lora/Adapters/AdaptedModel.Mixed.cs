using Engine.Autograd;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

/// <content>Batches whose rows use different adapters.</content>
public sealed partial class AdaptedModel
{
    /// <summary>
    /// Prepares mixed batches: <see cref="BatchContext.RowAdapters"/> then holds, for each row, an index into
    /// <paramref name="names"/>, or −1 for the base alone. All rows go through one forward pass. On a GPU the adapters are
    /// copied in the base's dtype, until another activation.
    /// </summary>
    /// <exception cref="EngineDataException">
    /// No adapter has such a name, one cannot serve in a mixed batch, or there are too many or too large ones.
    /// </exception>
    public void ActivateMixed(IReadOnlyList<string> names) => ActivateMixed(names, trains: false);

    /// <summary>
    /// <see cref="ActivateMixed(IReadOnlyList{string})"/> for training: each row of a batch trains its own adapter
    /// (<see cref="Data.Batch.RowAdapters"/>), and gradients flow to the named adapters only. Returns their parameters adapter by
    /// adapter, in a fixed order. An adapter's gradients are those of its rows alone.
    /// </summary>
    /// <exception cref="EngineDataException">
    /// As for serving; or a name comes twice, an adapter has a layer in the head, or adapters differ in their dropout.
    /// </exception>
    public IReadOnlyList<Variable> TrainMixed(IReadOnlyList<string> names)
    {
        ArgumentNullException.ThrowIfNull(names);
        LoraAdapter[] adapters = [.. names.Select(Get)];
        for (int i = 0; i < adapters.Length; i++)
        {
            if (Array.IndexOf(adapters, adapters[i]) != i)
            {
                throw new EngineDataException($"adapter \"{names[i]}\" is named twice; an adapter trained in a mixed batch has one index");
            }

            if (adapters[i].Layers.Any(l => l.Path == Base.Head.Path))
            {
                throw new EngineDataException(
                    $"adapter \"{names[i]}\" cannot be trained in a mixed batch: it adapts {Base.Head.Path}, which the loss computes for labelled tokens alone; train it by itself");
            }
        }

        foreach (IGrouping<string, LoraLayer> linear in adapters.SelectMany(a => a.Layers).GroupBy(l => l.Path, StringComparer.Ordinal))
        {
            if (linear.Select(l => l.Dropout).Distinct().Count() > 1)
            {
                throw new EngineDataException(
                    $"the adapters have different dropout in {linear.Key}: {string.Join(", ", linear.Select(l => l.Dropout).Distinct())}; in a mixed batch lora_dropout has to be the same");
            }
        }

        ActivateMixed(names, trains: true);
        foreach (Variable parameter in Base.Parameters.Values.Concat(_adapters.Values.SelectMany(a => a.Parameters)))
        {
            parameter.RequiresGrad = false;
        }

        Variable[] trained = [.. adapters.SelectMany(a => a.Parameters)];
        foreach (Variable parameter in trained)
        {
            parameter.RequiresGrad = true;
        }

        return trained;
    }

    /// <summary>Checks the rows' adapters of a batch against the mixed set in charge.</summary>
    /// <exception cref="ArgumentException">They do not fit, or no set is in charge.</exception>
    internal void RequireRowAdapters(IReadOnlyList<int> rows, int batch) => RequireRowAdapters(rows, batch, _selection.Mixed?.Count ?? 0);

    /// <inheritdoc cref="RequireRowAdapters(IReadOnlyList{int}, int)"/>
    internal static void RequireRowAdapters(IReadOnlyList<int> rows, int batch, int adapters)
    {
        bool fits = rows.Count == batch;
        for (int i = 0; fits && i < rows.Count; i++)
        {
            fits = rows[i] < adapters;
        }

        if (!fits)
        {
            throw new ArgumentException(
                $"row adapters are [{string.Join(", ", rows)}]; a batch of {batch} rows needs as many indices, each below {adapters} or −1", nameof(rows));
        }
    }

    private void ActivateMixed(IReadOnlyList<string> names, bool trains)
    {
        ArgumentNullException.ThrowIfNull(names);
        LoraAdapter[] adapters = [.. names.Select(Get)];
        if (adapters.Length > Kernels.AdapterTable.MostAdapters)
        {
            throw new EngineDataException($"a mixed batch takes up to {Kernels.AdapterTable.MostAdapters} adapters, not {adapters.Length}");
        }

        foreach (LoraAdapter adapter in adapters)
        {
            if (adapter.Config.UseDora || adapter.HasStandIns)
            {
                throw new EngineDataException(
                    $"adapter \"{adapter.Name}\" cannot serve in a mixed batch: it {Peculiarity(adapter)}; plain LoRA can");
            }

            if (adapter.Layers.FirstOrDefault(l => l.Target.Rank > Kernels.AdapterTable.MostRank) is { } large)
            {
                throw new EngineDataException(
                    $"adapter \"{adapter.Name}\" cannot serve in a mixed batch: its rank in {large.Path} is {large.Target.Rank}, and {Kernels.AdapterTable.MostRank} is the most");
            }
        }

        Activate(null);
        Base.Device.InvalidateGraphs();
        try
        {
            foreach (LoraLinear linear in _linears.Values)
            {
                linear.Mixed = MixedLayer.Create([.. adapters.Select(linear.LayerOf)], Base.DType, trains);
            }
        }
        catch
        {
            ReleaseMixed();
            throw;
        }

        _selection.Mixed = adapters;
    }

    private void ReleaseMixed()
    {
        _selection.Mixed = null;
        foreach (LoraLinear linear in _linears.Values)
        {
            linear.Mixed?.Dispose();
            linear.Mixed = null;
        }
    }
}
