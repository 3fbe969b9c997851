using Engine.Kernels;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora;

public sealed partial class AdaptedModel
{
    // Weights that have been laid out anew leave their old memory behind; it goes back in portions of this size.
    private const long TrimBytes = 1L << 30;

    private readonly Dictionary<LinearStack, BorderedWeight> _layouts = [];
    private readonly Dictionary<LoraAdapter, AdapterPlacement> _placements = [];
    private AdapterPlacement? _placement;

    // Puts an adapter's A and B beside the frozen weights of all stacks that it adapts. Where it has weights of its own, or DoRA
    // drops elements of its input, stacks answer linear by linear; those that it leaves alone keep the layout they have.
    private void LayOut(LoraAdapter? adapter)
    {
        _placement = null;
        IReadOnlyList<LinearStack> stacks = Base.Stacks;
        for (int i = 0; i < stacks.Count; i++)
        {
            stacks[i].Adapter = null;
        }

        if (adapter is null)
        {
            return;
        }

        if (!_placements.TryGetValue(adapter, out AdapterPlacement? placement) || !placement.TryTakeCharge())
        {
            placement = Place(adapter);
        }

        placement.Write();
        _placement = placement;
    }

    private AdapterPlacement Place(LoraAdapter adapter)
    {
        Forget(adapter);
        var placement = new AdapterPlacement();
        try
        {
            long moved = 0;
            foreach (LinearStack stack in Base.Stacks)
            {
                LoraLayer?[] layers = [.. stack.Linears.Select(l => _linears.TryGetValue(l.Path, out LoraLinear? own) ? own.LayerOf(adapter) : null)];
                if (Array.TrueForAll(layers, static layer => layer is null))
                {
                    continue;
                }

                if (stack.Linears.Any(l => _displaced.ContainsKey($"{l.Path}.weight")) || Array.Exists(layers, static l => l is { Magnitude: not null, Dropout: > 0 }))
                {
                    MakeDense(stack);
                    continue;
                }

                BorderedWeight layout = WithRoom(stack, layers, ref moved);
                placement.Add(stack, layout, layers, new BorderedStack(_selection, adapter, layout, layers));
                if (moved >= TrimBytes)
                {
                    Base.Device.Trim();
                    moved = 0;
                }
            }

            if (moved > 0)
            {
                Base.Device.Trim();
            }

            placement.TryTakeCharge();
            _placements.Add(adapter, placement);
            return placement;
        }
        catch
        {
            placement.Dispose();
            throw;
        }
    }

    // The stack's weights with a border that suits the layers; counts the bytes of weights that had to move.
    private BorderedWeight WithRoom(LinearStack stack, LoraLayer?[] layers, ref long moved)
    {
        int[] ranks = AdapterPlacement.RanksOf(layers);
        float[] scales = AdapterPlacement.ScalesOf(layers);
        if (_layouts.TryGetValue(stack, out BorderedWeight? old) && old.TryAssign(ranks, scales))
        {
            return old;
        }

        BorderedWeight layout = BorderedWeight.Create([.. stack.Linears.Select(static l => l.Weight.Value)], ranks, stack.IsTransposed);
        layout.TryAssign(ranks, scales);
        ForgetPlacements();
        _layouts[stack] = layout;
        for (int i = 0; i < stack.Linears.Count; i++)
        {
            moved += stack.Linears[i].Weight.Value.ByteLength;
            stack.Linears[i].Weight.Replace(layout.Weight(i));
        }

        old?.Dispose();
        return layout;
    }

    // Gives weights back their own memory without gaps, which ops that train or rescale whole weights want.
    private void MakeDense(LinearStack stack)
    {
        if (!_layouts.TryGetValue(stack, out BorderedWeight? layout))
        {
            return;
        }

        // A stand-in has other memory; the base's own weight is then the one put aside. All copies come first: without memory for
        // them the layout stays.
        Autograd.Variable[] weights = [.. stack.Linears.Select(l => Original($"{l.Path}.weight"))];
        using var made = new Tentative();
        Tensor[] copies = [.. weights.Select(w => made.Add(Copy.Clone(w.Value)))];
        made.Keep();
        ForgetPlacements();
        _layouts.Remove(stack);
        for (int i = 0; i < weights.Length; i++)
        {
            weights[i].Replace(copies[i]);
        }

        layout.Dispose();
    }

    private void PutAdaptersBesideWeights()
    {
        if (_selection.Active is not null && _selection.Mixed is null)
        {
            _placement?.Write();
        }
    }

    private void Forget(LoraAdapter adapter)
    {
        if (_placements.Remove(adapter, out AdapterPlacement? placement))
        {
            placement.Dispose();
        }
    }

    // A layout has changed: what was placed there has to be placed anew.
    private void ForgetPlacements()
    {
        foreach (AdapterPlacement placement in _placements.Values)
        {
            placement.Dispose();
        }

        _placements.Clear();
        _placement = null;
    }

    private void DisposeLayouts()
    {
        ForgetPlacements();
        foreach (BorderedWeight layout in _layouts.Values)
        {
            layout.Dispose();
        }

        _layouts.Clear();
    }
}
