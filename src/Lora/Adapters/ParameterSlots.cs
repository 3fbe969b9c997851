using Engine.Autograd;
using Engine.Transformer;

namespace Engine.Lora;

/// <summary>
/// The places of a model's parameters, by name: an adapter's own copy of a parameter takes the place of the base's while
/// the adapter is active.
/// </summary>
internal sealed class ParameterSlots
{
    private readonly Dictionary<string, (Func<Variable> Get, Action<Variable> Set)> _slots = new(StringComparer.Ordinal);

    public ParameterSlots(DecoderModel model)
    {
        foreach (LinearModule linear in model.Linears)
        {
            _slots.Add($"{linear.Path}.weight", (() => linear.Weight, v => linear.Weight = v));
            if (linear.Bias is not null)
            {
                _slots.Add($"{linear.Path}.bias", (() => linear.Bias, v => linear.Bias = v));
            }
        }

        foreach (NormModule norm in model.Norms)
        {
            _slots.Add($"{norm.Path}.weight", (() => norm.Weight, v => norm.Weight = v));
            if (norm.Bias is not null)
            {
                _slots.Add($"{norm.Path}.bias", (() => norm.Bias, v => norm.Bias = v));
            }
        }

        foreach (EmbeddingModule embedding in model.Embeddings)
        {
            _slots.Add($"{embedding.Path}.weight", (() => embedding.Weight, v => embedding.Weight = v));
        }
    }

    /// <summary>Names of all parameters, a tied head under its own name too.</summary>
    public IEnumerable<string> Names => _slots.Keys;

    public bool Contains(string name) => _slots.ContainsKey(name);

    public Variable this[string name]
    {
        get => _slots[name].Get();
        set => _slots[name].Set(value);
    }
}
