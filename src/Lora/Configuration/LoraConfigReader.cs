using System.Text.Json;
using Engine.Tensors;

namespace Engine.Lora;

/// <summary>Reads <c>adapter_config.json</c> field by field; nothing in the file is passed over in silence.</summary>
internal static class LoraConfigReader
{
    public static LoraConfig Read(ReadOnlyMemory<byte> utf8, string source)
    {
        using JsonDocument document = ConfigJson.ParseObject(utf8, source);
        var config = new LoraConfig();
        bool typed = false;
        foreach (JsonProperty field in document.RootElement.EnumerateObject())
        {
            typed |= field.Name == "peft_type";
            config = Apply(config, field.Name, field.Value, source);
        }

        return typed
            ? config
            : throw new EngineDataException(
                $"{source}: field \"peft_type\" is missing; expected \"peft_type\": \"LORA\" (is this an adapter's {LoraConfig.FileName}?)");
    }

    private static LoraConfig Apply(LoraConfig config, string name, JsonElement value, string source) => name switch
    {
        "peft_type" => Is(value, "LORA")
            ? config
            : throw ConfigJson.Wrong(source, name, value, "\"LORA\", the only method supported"),
        "r" => config with { Rank = ConfigJson.Integer(value, source, name, "an integer of at least 1") },
        "lora_alpha" => config with { Alpha = ConfigJson.Number(value, source, name, "a number above 0") },
        "lora_dropout" => config with { Dropout = ConfigJson.Number(value, source, name, "a probability in [0, 1)") },
        "target_modules" => config with { TargetModules = NamesOrPattern(value, source, name) },
        "exclude_modules" => config with { ExcludeModules = NamesOrPattern(value, source, name) },
        "layers_to_transform" => config with { LayersToTransform = Layers(value, source, name) },
        "layers_pattern" => config with { LayersPattern = LayerNames(value, source, name) },
        "rank_pattern" => config with
        {
            RankPattern = Pattern(value, source, name, static (v, s, f) => ConfigJson.Integer(v, s, f, "an integer of at least 1")),
        },
        "alpha_pattern" => config with
        {
            AlphaPattern = Pattern(value, source, name, static (v, s, f) => ConfigJson.Number(v, s, f, "a number above 0")),
        },
        "use_rslora" => config with { UseRslora = ConfigJson.Boolean(value, source, name) },
        "use_dora" => config with { UseDora = ConfigJson.Boolean(value, source, name) },
        "bias" => config with { Bias = Bias(value, source, name) },
        "modules_to_save" => config with { ModulesToSave = OptionalStrings(value, source, name) },
        "fan_in_fan_out" => config with { FanInFanOut = ConfigJson.Boolean(value, source, name) },
        "init_lora_weights" => config with { Init = Init(value, source, name) },
        "base_model_name_or_path" => config with { BaseModelNameOrPath = ConfigJson.OptionalString(value, source, name) },
        "revision" => config with { Revision = ConfigJson.OptionalString(value, source, name) },
        "task_type" => config with { TaskType = ConfigJson.OptionalString(value, source, name) },
        "inference_mode" => config with { InferenceMode = ConfigJson.Boolean(value, source, name) },
        "auto_mapping" => config with { AutoMappingJson = AutoMapping(value, source, name) },
        "peft_version" => config with { PeftVersion = ConfigJson.OptionalString(value, source, name) },

        // PEFT itself drops this field on reading: it says how a run uses memory, not what is computed.
        "runtime_config" => config,
        _ => Other(config, name, value, source),
    };

    private static LoraConfig Other(LoraConfig config, string name, JsonElement value, string source)
    {
        if (LoraConfigFields.Inert.TryGetValue(name, out (string Json, string Feature) inert))
        {
            return LoraConfigFields.IsInert(inert.Json, value)
                ? config
                : throw ConfigJson.Wrong(source, name, value, $"{inert.Json}: {inert.Feature} is not supported");
        }

        return LoraConfigFields.IsBlank(value)
            ? config
            : throw ConfigJson.Wrong(source, name, value, "no such field: it is not known, so its effect would be lost");
    }

    private static bool Is(JsonElement value, string text) =>
        value.ValueKind == JsonValueKind.String && value.ValueEquals(text);

    private static NamesOrPattern? NamesOrPattern(JsonElement value, string source, string name) => value.ValueKind switch
    {
        JsonValueKind.Null => null,
        JsonValueKind.String => Lora.NamesOrPattern.FromPattern(ConfigJson.String(value, source, name)),
        _ => Lora.NamesOrPattern.FromNames(
            ConfigJson.Strings(value, source, name, "a list of module names, a regular expression or null")),
    };

    private static OneOrMany<int>? Layers(JsonElement value, string source, string name)
    {
        const string Expected = "a layer index, a list of them or null";
        return value.ValueKind switch
        {
            JsonValueKind.Null => null,
            JsonValueKind.Array => OneOrMany.Many(
                value.EnumerateArray().Select(item => ConfigJson.Integer(item, source, name, Expected)).ToList()),
            _ => OneOrMany.One(ConfigJson.Integer(value, source, name, Expected)),
        };
    }

    private static OneOrMany<string>? LayerNames(JsonElement value, string source, string name)
    {
        const string Expected = "the name of the list of blocks, a list of names or null";
        return value.ValueKind switch
        {
            JsonValueKind.Null => null,
            JsonValueKind.Array => OneOrMany.Many(ConfigJson.Strings(value, source, name, Expected)),
            _ => OneOrMany.One(ConfigJson.String(value, source, name, Expected)),
        };
    }

    private static List<KeyValuePair<string, T>> Pattern<T>(
        JsonElement value, string source, string name, Func<JsonElement, string, string, T> read)
    {
        var entries = new List<KeyValuePair<string, T>>();
        if (ConfigJson.IsNull(value))
        {
            return entries;
        }

        if (value.ValueKind != JsonValueKind.Object)
        {
            throw ConfigJson.Wrong(source, name, value, "an object from module pattern to number");
        }

        foreach (JsonProperty entry in value.EnumerateObject())
        {
            entries.Add(new(entry.Name, read(entry.Value, source, $"{name}\".\"{entry.Name}")));
        }

        return entries;
    }

    private static LoraBias Bias(JsonElement value, string source, string name) =>
        Is(value, "none") ? LoraBias.None
        : Is(value, "all") ? LoraBias.All
        : Is(value, "lora_only") ? LoraBias.LoraOnly
        : throw ConfigJson.Wrong(source, name, value, "\"none\", \"all\" or \"lora_only\"");

    private static LoraInit Init(JsonElement value, string source, string name)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.True:
                return new LoraInit(LoraInitKind.Default);
            case JsonValueKind.False:
                return new LoraInit(LoraInitKind.Random);
            case JsonValueKind.String when LoraInit.TryParse(ConfigJson.String(value, source, name), out LoraInit init):
                return init;
            default:
                throw ConfigJson.Wrong(source, name, value, LoraInit.Supported);
        }
    }

    private static List<string>? OptionalStrings(JsonElement value, string source, string name) =>
        ConfigJson.IsNull(value) ? null : ConfigJson.Strings(value, source, name, "a list of module names or null");

    private static string? AutoMapping(JsonElement value, string source, string name) => value.ValueKind switch
    {
        JsonValueKind.Null => null,
        JsonValueKind.Object => value.GetRawText(),
        _ => throw ConfigJson.Wrong(source, name, value, "an object or null"),
    };
}
