using Engine.Tensors;

namespace Engine.Lora;

/// <summary>
/// The names in the state dictionary of loralib (microsoft/LoRA), saved as safetensors: the path of the module and
/// <c>.lora_A</c> or <c>.lora_B</c>, with <c>.bias</c> beside them when biases were trained. loralib saves neither α nor
/// which parts of a merged layer are adapted; both have to be given.
/// </summary>
public static class LoralibKeys
{
    /// <summary>What PyTorch's data-parallel wrapper puts before every name.</summary>
    private const string WrapperPrefix = "module.";

    /// <summary>Reads a name.</summary>
    /// <param name="key">The tensor's name in the file.</param>
    /// <param name="source">The file, for messages.</param>
    /// <exception cref="EngineDataException">The name is not one that loralib writes.</exception>
    public static AdapterKey Parse(string key, string source)
    {
        ArgumentNullException.ThrowIfNull(key);
        string name = key.StartsWith(WrapperPrefix, StringComparison.Ordinal) ? key[WrapperPrefix.Length..] : key;
        int dot = name.LastIndexOf('.');
        AdapterPart? part = dot <= 0
            ? null
            : name[(dot + 1)..] switch
            {
                "lora_A" => AdapterPart.LoraA,
                "lora_B" => AdapterPart.LoraB,
                "bias" => AdapterPart.Bias,
                _ => null,
            };
        return part is AdapterPart known
            ? new AdapterKey(name[..dot], known)
            : throw new EngineDataException(
                $"{source}: tensor \"{key}\" is not named as loralib names its tensors; expected <module>.lora_A, <module>.lora_B or " +
                "<module>.bias (an adapter of PEFT is a directory with adapter_config.json)");
    }

    /// <summary>The name loralib gives a tensor.</summary>
    /// <param name="path">The module's path.</param>
    /// <param name="part"><see cref="AdapterPart.LoraA"/>, <see cref="AdapterPart.LoraB"/> or <see cref="AdapterPart.Bias"/>.</param>
    public static string Format(string path, AdapterPart part) => part switch
    {
        AdapterPart.LoraA => $"{path}.lora_A",
        AdapterPart.LoraB => $"{path}.lora_B",
        AdapterPart.Bias => $"{path}.bias",
        _ => throw new ArgumentOutOfRangeException(nameof(part), part, "loralib has no such tensor"),
    };
}
