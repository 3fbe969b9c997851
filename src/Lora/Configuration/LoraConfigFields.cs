using System.Text.Json;

namespace Engine.Lora;

/// <summary>
/// The fields of PEFT's LoRA configuration that Engine does not act on. Each is accepted at null and at the value at
/// which PEFT does nothing with it, and is written back with that value.
/// </summary>
internal static class LoraConfigFields
{
    /// <summary>Field, the inert value as JSON, and what it would switch on.</summary>
    public static readonly IReadOnlyDictionary<string, (string Json, string Feature)> Inert =
        new Dictionary<string, (string Json, string Feature)>(StringComparer.Ordinal)
        {
            ["alora_invocation_tokens"] = ("null", "activated LoRA"),
            ["arrow_config"] = ("null", "Arrow routing"),
            ["corda_config"] = ("null", "CorDA initialisation"),
            ["ensure_weight_tying"] = ("false", "adapters tied with the embedding"),
            ["eva_config"] = ("null", "EVA initialisation"),
            ["kasa_config"] = ("null", "KaSA"),
            ["layer_replication"] = ("null", "replicated layers"),
            ["loftq_config"] = ("{}", "LoftQ initialisation"),
            ["lora_bias"] = ("false", "a bias in B"),
            ["lora_ga_config"] = ("null", "LoRA-GA initialisation"),
            ["megatron_config"] = ("null", "Megatron layers"),
            ["megatron_core"] = ("\"megatron.core\"", "another Megatron module"),
            ["monteclora_config"] = ("null", "Monte Carlo LoRA"),
            ["qalora_group_size"] = ("16", "another group size of QALoRA"),
            ["target_parameters"] = ("null", "adapted parameters outside linear layers"),
            ["trainable_token_indices"] = ("null", "trainable token rows"),
            ["use_bdlora"] = ("null", "block-diagonal LoRA"),
            ["use_qalora"] = ("false", "QALoRA"),
            ["velora_config"] = ("null", "VeLoRA"),
        };

    /// <summary>Whether <paramref name="value"/> leaves the field without effect.</summary>
    public static bool IsInert(string inertJson, JsonElement value)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.Null:
                return true;
            case JsonValueKind.Object:
                return inertJson == "{}" && !value.EnumerateObject().Any();
            default:
                return value.GetRawText() == inertJson;
        }
    }

    /// <summary>
    /// Whether the value of a field that this list does not know does nothing: null, false, an empty list or object.
    /// Later versions of PEFT add fields that default to one of these.
    /// </summary>
    public static bool IsBlank(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Null or JsonValueKind.False => true,
        JsonValueKind.Object => !value.EnumerateObject().Any(),
        JsonValueKind.Array => value.GetArrayLength() == 0,
        _ => false,
    };
}
