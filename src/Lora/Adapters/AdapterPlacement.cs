using Engine.Kernels;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>Where one adapter's A and B lie beside the frozen weights, kept from its first activation on so that switching is quick.</summary>
internal sealed class AdapterPlacement : IDisposable
{
    private readonly List<Place> _places = [];
    private readonly BorderWriter _writer = new();

    /// <summary>Adds a stack and what of the adapter belongs to it.</summary>
    public void Add(LinearStack stack, BorderedWeight layout, LoraLayer?[] layers, IStackAdapter forward)
    {
        _places.Add(new Place(stack, layout, RanksOf(layers), ScalesOf(layers), forward));
        for (int i = 0; i < layers.Length; i++)
        {
            if (layers[i] is { } layer)
            {
                _writer.Add(layout, i, layer.A.Value, layer.B.Value);
            }
        }
    }

    /// <summary>Puts the adapter in charge of its stacks. False when a border has been given to wider adapters meanwhile.</summary>
    public bool TryTakeCharge()
    {
        foreach (Place place in _places)
        {
            if (!place.Layout.TryAssign(place.Ranks, place.Scales))
            {
                return false;
            }

            place.Stack.Adapter = place.Forward;
        }

        return true;
    }

    /// <summary>Copies A and B, as they are now, beside the weights.</summary>
    public void Write() => _writer.Run();

    /// <inheritdoc/>
    public void Dispose() => _writer.Dispose();

    public static int[] RanksOf(LoraLayer?[] layers) => [.. layers.Select(static layer => layer?.Target.Rank ?? 0)];

    public static float[] ScalesOf(LoraLayer?[] layers) => [.. layers.Select(static layer => layer?.Scale ?? 0)];

    private sealed record Place(LinearStack Stack, BorderedWeight Layout, int[] Ranks, float[] Scales, IStackAdapter Forward);
}
