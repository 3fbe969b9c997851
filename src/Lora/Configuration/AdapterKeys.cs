using Engine.Tensors;

namespace Engine.Lora;

/// <summary>
/// The names of the tensors in PEFT's <c>adapter_model.safetensors</c>: <c>base_model.model.</c>, the path of the
/// module in the base, and what the tensor is; the adapter's own name is left out.
/// </summary>
public static class AdapterKeys
{
    /// <summary>The name of the weights file in an adapter directory.</summary>
    public const string FileName = "adapter_model.safetensors";

    /// <summary>What every key starts with: the two wrappers PEFT puts around the base.</summary>
    public const string Prefix = "base_model.model.";

    // The first suffix that fits counts: the longer ones stand before those they end in.
    private static readonly (string Suffix, AdapterPart Part)[] s_suffixes =
    [
        (".lora_A.weight", AdapterPart.LoraA),
        (".lora_B.weight", AdapterPart.LoraB),
        (".lora_magnitude_vector", AdapterPart.Magnitude),
        (".lora_magnitude_vector.weight", AdapterPart.Magnitude),
        (".base_layer.bias", AdapterPart.Bias),
        (".original_module.bias", AdapterPart.Duplicate),
        (".modules_to_save.bias", AdapterPart.Duplicate),
        (".bias", AdapterPart.Bias),
        (".weight", AdapterPart.Weight),
    ];

    private static readonly (string Segment, string Reason)[] s_unsupported =
    [
        ("lora_embedding_A", "low-rank updates of an embedding are not supported"),
        ("lora_embedding_B", "low-rank updates of an embedding are not supported"),
        ("lora_B.bias", "a bias in B (\"lora_bias\") is not supported"),
        ("lora_A.bias", "a bias in A is not supported"),
        ("lora_diag", "KaSA is not supported"),
        ("token_adapter", "trainable token rows are not supported"),
        ("trainable_tokens_delta", "trainable token rows are not supported"),
        ("base_layer.weight", "a saved base weight (a resized embedding) is not supported"),
    ];

    /// <summary>The key of a tensor.</summary>
    /// <param name="path">The module's path in the base model.</param>
    /// <param name="part">Which of its tensors; not <see cref="AdapterPart.Duplicate"/>.</param>
    /// <param name="isTargeted">
    /// Whether the module has a low-rank update: PEFT then keeps the base's layer, and with it the bias, one level down.
    /// </param>
    public static string Format(string path, AdapterPart part, bool isTargeted = false) => part switch
    {
        AdapterPart.LoraA => $"{Prefix}{path}.lora_A.weight",
        AdapterPart.LoraB => $"{Prefix}{path}.lora_B.weight",
        AdapterPart.Magnitude => $"{Prefix}{path}.lora_magnitude_vector",
        AdapterPart.Bias => isTargeted ? $"{Prefix}{path}.base_layer.bias" : $"{Prefix}{path}.bias",
        AdapterPart.Weight => $"{Prefix}{path}.weight",
        _ => throw new ArgumentOutOfRangeException(nameof(part), part, "has no key of its own"),
    };

    /// <summary>Reads a key.</summary>
    /// <param name="key">The tensor's name in the file.</param>
    /// <param name="source">The file, for messages.</param>
    /// <exception cref="EngineDataException">The key is not PEFT's, or stands for something not supported.</exception>
    public static AdapterKey Parse(string key, string source = FileName)
    {
        ArgumentNullException.ThrowIfNull(key);
        if (!key.StartsWith(Prefix, StringComparison.Ordinal))
        {
            throw new EngineDataException(
                $"{source}: tensor \"{key}\" is not named as PEFT names an adapter's tensors; expected {Prefix}<module>.lora_A.weight " +
                "and the like");
        }

        string name = key[Prefix.Length..];
        foreach ((string segment, string reason) in s_unsupported)
        {
            if (name.EndsWith($".{segment}", StringComparison.Ordinal) || name.Contains($".{segment}.", StringComparison.Ordinal))
            {
                throw new EngineDataException($"{source}: tensor \"{key}\": {reason}");
            }
        }

        foreach ((string suffix, AdapterPart part) in s_suffixes)
        {
            if (name.Length > suffix.Length && name.EndsWith(suffix, StringComparison.Ordinal))
            {
                string path = name[..^suffix.Length];
                bool isInsideAdapter = path.StartsWith("lora_", StringComparison.Ordinal) ||
                    path.Contains(".lora_", StringComparison.Ordinal);
                if (!isInsideAdapter)
                {
                    return new AdapterKey(path, part);
                }
            }
        }

        throw new EngineDataException(
            $"{source}: tensor \"{key}\" is of no known kind; expected a name that ends in .lora_A.weight, .lora_B.weight, " +
            ".lora_magnitude_vector, .bias or .weight");
    }

    /// <summary>The tensors of the adapter that a configuration describes on a model, with their shapes.</summary>
    /// <param name="config">The configuration.</param>
    /// <param name="match">What it selects.</param>
    /// <param name="modules">All layers of the model.</param>
    /// <returns>The tensors in the model's order, each module's A before B before the rest.</returns>
    public static IReadOnlyList<AdapterTensor> Tensors(
        LoraConfig config, TargetMatch match, IReadOnlyList<ModuleDescription> modules)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(match);
        ArgumentNullException.ThrowIfNull(modules);
        var targets = match.Targets.ToDictionary(t => t.Module.Path, StringComparer.Ordinal);
        var saved = match.Saved.Select(m => m.Path).ToHashSet(StringComparer.Ordinal);
        var tensors = new List<AdapterTensor>();
        foreach (ModuleDescription module in modules)
        {
            bool isTargeted = targets.TryGetValue(module.Path, out TargetedModule? target);
            bool isSaved = saved.Contains(module.Path);
            if (target is not null)
            {
                Add(module, AdapterPart.LoraA, [target.Rank, module.InFeatures]);
                Add(module, AdapterPart.LoraB, [module.OutFeatures, target.Rank]);
                if (config.UseDora)
                {
                    Add(module, AdapterPart.Magnitude, [module.OutFeatures]);
                }
            }

            if (isSaved)
            {
                Add(module, AdapterPart.Weight, module.WeightShape);
            }

            bool trainsBias = isSaved || config.Bias == LoraBias.All || (config.Bias == LoraBias.LoraOnly && isTargeted);
            if (trainsBias && module.HasBias)
            {
                Add(module, AdapterPart.Bias, [module.OutFeatures]);
            }

            void Add(ModuleDescription owner, AdapterPart part, IReadOnlyList<int> shape) =>
                tensors.Add(new AdapterTensor(Format(owner.Path, part, isTargeted), owner, part, shape));
        }

        return tensors;
    }
}
