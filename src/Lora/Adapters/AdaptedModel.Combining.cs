using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Lora;

/// <summary>How adapters are combined into one.</summary>
public enum CombinationType
{
    /// <summary>
    /// Same rank: A = Σ sign(wᵢsᵢ)·√|wᵢsᵢ|·Aᵢ and B = Σ √|wᵢsᵢ|·Bᵢ, as PEFT's <c>linear</c>; the product mixes the adapters'
    /// parts and is not Σ wᵢ·ΔWᵢ.
    /// </summary>
    Linear,

    /// <summary>Ranks add up: A = [wᵢsᵢ·Aᵢ], B = [Bᵢ], so ΔW = Σ wᵢ·ΔWᵢ exactly, as PEFT's <c>cat</c>.</summary>
    Cat,
}

public sealed partial class AdaptedModel
{
    /// <summary>
    /// Adds an adapter that combines others with weights, as PEFT's <c>add_weighted_adapter</c>. Linears that only some of
    /// them target count those alone. The result's α equals its rank, so its scale is 1.
    /// </summary>
    /// <exception cref="EngineDataException">An adapter cannot be combined (DoRA, own copies), or ranks differ under <c>linear</c>.</exception>
    public LoraAdapter Combine(string name, IReadOnlyList<(string Name, double Weight)> parts, CombinationType type)
    {
        ArgumentNullException.ThrowIfNull(parts);
        if (parts.Count == 0)
        {
            throw new EngineDataException("no adapters were given to combine");
        }

        (LoraAdapter Adapter, double Weight)[] sources = [.. parts.Select(p => (Get(p.Name), p.Weight))];
        RequireCombinable(sources, type);
        int rank = type == CombinationType.Linear
            ? sources[0].Adapter.Config.Rank
            : sources.Sum(s => s.Adapter.Config.Rank);
        var byPath = new Dictionary<string, List<(LoraLayer Layer, double Weight)>>(StringComparer.Ordinal);
        foreach ((LoraAdapter adapter, double weight) in sources)
        {
            foreach (LoraLayer layer in adapter.Layers)
            {
                if (!byPath.TryGetValue(layer.Path, out List<(LoraLayer, double)>? list))
                {
                    list = [];
                    byPath.Add(layer.Path, list);
                }

                list.Add((layer, weight));
            }
        }

        // PEFT writes the union of the targets by suffix; full paths select the same linears and nothing else.
        Dictionary<string, int> ranks = byPath.ToDictionary(
            p => p.Key, p => type == CombinationType.Linear ? rank : p.Value.Sum(l => l.Layer.Target.Rank), StringComparer.Ordinal);
        LoraConfig config = sources[0].Adapter.Config with
        {
            Rank = rank,
            Alpha = rank,
            UseRslora = false,
            Dropout = 0,
            Init = default,
            TargetModules = NamesOrPattern.FromNames(byPath.Keys.Order(StringComparer.Ordinal)),
            ExcludeModules = null,
            LayersToTransform = null,
            LayersPattern = null,
            RankPattern = [.. ranks.Where(r => r.Value != rank).Select(r => KeyValuePair.Create(r.Key, r.Value))],
            AlphaPattern = [.. ranks.Where(r => r.Value != rank).Select(r => KeyValuePair.Create(r.Key, (double)r.Value))],
        };
        return Add(name, config, $"combination \"{name}\"", (target, linear) =>
        {
            (Tensor a, Tensor b) = type == CombinationType.Linear
                ? CombineLinear(byPath[linear.Path])
                : CombineCat(byPath[linear.Path], target.Rank);
            return (a, b, null);
        });
    }

    private static void RequireCombinable((LoraAdapter Adapter, double Weight)[] sources, CombinationType type)
    {
        foreach ((LoraAdapter adapter, double weight) in sources)
        {
            if (adapter.Config.UseDora || adapter.HasStandIns)
            {
                throw new EngineDataException(
                    $"adapter \"{adapter.Name}\" cannot be combined: only plain LoRA without DoRA, PiSSA, trained biases or modules_to_save adds up");
            }

            if (!double.IsFinite(weight))
            {
                throw new EngineDataException($"adapter \"{adapter.Name}\": weight {weight} is not a finite number");
            }
        }

        if (type == CombinationType.Linear)
        {
            ILookup<int, string> byRank = sources.SelectMany(s => s.Adapter.Layers.Select(l => (l.Target.Rank, s.Adapter.Name)))
                .ToLookup(x => x.Rank, x => x.Name);
            if (byRank.Count > 1)
            {
                throw new EngineDataException(
                    $"combination \"linear\" needs one rank, these adapters have {string.Join(", ", byRank.Select(g => $"{g.Key} ({string.Join(", ", g.Distinct())})"))}; \"cat\" takes different ranks");
            }
        }
    }

    private static (Tensor A, Tensor B) CombineLinear(List<(LoraLayer Layer, double Weight)> parts)
    {
        Tensor a = parts[0].Layer.A.Value.ZerosLike();
        Tensor b = parts[0].Layer.B.Value.ZerosLike();
        try
        {
            foreach ((LoraLayer layer, double weight) in parts)
            {
                double factor = weight * layer.Target.Scale;
                float root = (float)Math.Sqrt(Math.Abs(factor));
                Elementwise.AddScaled(a, layer.A.Value, Math.Sign(factor) * root);
                Elementwise.AddScaled(b, layer.B.Value, root);
            }

            return (a, b);
        }
        catch
        {
            a.Dispose();
            b.Dispose();
            throw;
        }
    }

    private static (Tensor A, Tensor B) CombineCat(List<(LoraLayer Layer, double Weight)> parts, int rank)
    {
        Tensor firstA = parts[0].Layer.A.Value;
        Tensor firstB = parts[0].Layer.B.Value;
        Tensor a = Tensor.Empty([rank, firstA.Shape[1]], firstA.DType, firstA.Device);
        Tensor b = Tensor.Empty([firstB.Shape[0], rank], firstB.DType, firstB.Device);
        try
        {
            int row = 0;
            foreach ((LoraLayer layer, double weight) in parts)
            {
                using Tensor scaled = layer.A.Value.EmptyLike();
                Elementwise.Scale(layer.A.Value, (float)(weight * layer.Target.Scale), scaled);
                using Tensor rowsOfA = a.Slice(0, row, layer.Target.Rank);
                Copy.Run(scaled, rowsOfA);
                using Tensor columnsOfB = b.Slice(1, row, layer.Target.Rank);
                Copy.Run(layer.B.Value, columnsOfB);
                row += layer.Target.Rank;
            }

            return (a, b);
        }
        catch
        {
            a.Dispose();
            b.Dispose();
            throw;
        }
    }
}
