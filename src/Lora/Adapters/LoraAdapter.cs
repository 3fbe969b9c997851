using Engine.Autograd;

namespace Engine.Lora;

/// <summary>
/// A named adapter: its configuration, its layer for each targeted linear, and its own copies of what it trains in full
/// (biases, <c>modules_to_save</c>). <see cref="AdaptedModel"/> puts it to work.
/// </summary>
public sealed class LoraAdapter : IDisposable
{
    internal LoraAdapter(
        string name, LoraConfig config, IReadOnlyList<LoraLayer> layers, IReadOnlyDictionary<string, Variable> copies, int index)
    {
        Name = name;
        Config = config;
        Layers = layers;
        Copies = copies;
        Index = index;
        HasStandIns = copies.Count > 0 || IsPissa;
    }

    /// <summary>The name it goes by on its model.</summary>
    public string Name { get; }

    /// <summary>PEFT's configuration.</summary>
    public LoraConfig Config { get; internal set; }

    /// <summary>The low-rank layers, in the model's order.</summary>
    public IReadOnlyList<LoraLayer> Layers { get; }

    /// <summary>
    /// Trained copies of whole parameters, by the parameter's name in the model (<c>lm_head.weight</c>, a bias): they take
    /// the parameter's place while the adapter is active.
    /// </summary>
    public IReadOnlyDictionary<string, Variable> Copies { get; }

    /// <summary>Everything the adapter trains, in a fixed order: layers first, then copies by name.</summary>
    public IEnumerable<Variable> Parameters => Layers.SelectMany(l => l.Parameters).Concat(Copies.Values);

    /// <summary>Number of trained values.</summary>
    public long ParameterCount => Parameters.Sum(p => p.Value.Elements);

    /// <summary>PiSSA: its layers start from a split of the weight.</summary>
    internal bool IsPissa => Layers.Any(l => l.Start is not null);

    /// <summary>
    /// What takes the place of base parameters while the adapter is active: its copies, and PiSSA's residual weights.
    /// </summary>
    internal IEnumerable<(string Parameter, Variable Value)> StandIns => Copies.Select(c => (c.Key, c.Value))
        .Concat(Layers.Where(l => l.Start is not null).Select(l => ($"{l.Path}.weight", l.Start!.Residual)));

    /// <summary>True when more than A and B of each linear changes, so that the adapter cannot share the base with others.</summary>
    internal bool HasStandIns { get; }

    /// <summary>Position among the model's adapters; linears find their layer by it.</summary>
    internal int Index { get; }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (LoraLayer layer in Layers)
        {
            layer.Dispose();
        }

        foreach (Variable copy in Copies.Values)
        {
            copy.Dispose();
        }
    }
}
