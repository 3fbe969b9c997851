using System.Text;
using System.Text.Json;

namespace Engine.Lora;

/// <summary>Writes <c>adapter_config.json</c> with every field that PEFT writes, sorted by name.</summary>
internal static class LoraConfigWriter
{
    public static string Write(LoraConfig config)
    {
        var json = new PythonJson();
        json.Open('{');
        foreach ((string name, Action<PythonJson> write) in Fields(config))
        {
            json.Name(name);
            write(json);
        }

        json.Close('}');
        return json.ToString();
    }

    private static SortedDictionary<string, Action<PythonJson>> Fields(LoraConfig config)
    {
        var fields = new SortedDictionary<string, Action<PythonJson>>(StringComparer.Ordinal)
        {
            ["alpha_pattern"] = json => Pattern(json, config.AlphaPattern, json.Number),
            ["auto_mapping"] = json => AutoMapping(json, config.AutoMappingJson),
            ["base_model_name_or_path"] = json => json.String(config.BaseModelNameOrPath),
            ["bias"] = json => json.String(BiasText(config.Bias)),
            ["exclude_modules"] = json => NamesOrPattern(json, config.ExcludeModules),
            ["fan_in_fan_out"] = json => json.Boolean(config.FanInFanOut),
            ["inference_mode"] = json => json.Boolean(config.InferenceMode),
            ["init_lora_weights"] = json => json.Raw(config.Init.ToJson()),
            ["layers_pattern"] = json => OneOrMany(json, config.LayersPattern, json.String),
            ["layers_to_transform"] = json => OneOrMany(json, config.LayersToTransform, layer => json.Integer(layer)),
            ["lora_alpha"] = json => json.Number(config.Alpha),
            ["lora_dropout"] = json => json.Float(config.Dropout),
            ["modules_to_save"] = json => json.Strings(config.ModulesToSave),
            ["peft_type"] = json => json.String("LORA"),
            ["peft_version"] = json => json.String(config.PeftVersion),
            ["r"] = json => json.Integer(config.Rank),
            ["rank_pattern"] = json => Pattern(json, config.RankPattern, rank => json.Integer(rank)),
            ["revision"] = json => json.String(config.Revision),
            ["target_modules"] = json => NamesOrPattern(json, config.TargetModules),
            ["task_type"] = json => json.String(config.TaskType),
            ["use_dora"] = json => json.Boolean(config.UseDora),
            ["use_rslora"] = json => json.Boolean(config.UseRslora),
        };
        foreach ((string name, (string inert, _)) in LoraConfigFields.Inert)
        {
            fields.Add(name, json => json.Raw(inert));
        }

        return fields;
    }

    private static string BiasText(LoraBias bias) => bias switch
    {
        LoraBias.All => "all",
        LoraBias.LoraOnly => "lora_only",
        _ => "none",
    };

    private static void Pattern<T>(PythonJson json, IReadOnlyList<KeyValuePair<string, T>> entries, Action<T> write)
    {
        json.Open('{');
        foreach ((string key, T value) in entries)
        {
            json.Name(key);
            write(value);
        }

        json.Close('}');
    }

    private static void NamesOrPattern(PythonJson json, NamesOrPattern? value)
    {
        if (value?.Pattern is string pattern)
        {
            json.String(pattern);
        }
        else
        {
            json.Strings(value?.Names);
        }
    }

    private static void OneOrMany<T>(PythonJson json, OneOrMany<T>? value, Action<T> write)
    {
        if (value is null)
        {
            json.Null();
            return;
        }

        if (value.IsScalar)
        {
            write(value.Values[0]);
            return;
        }

        json.Open('[');
        foreach (T item in value.Values)
        {
            json.Item();
            write(item);
        }

        json.Close(']');
    }

    private static void AutoMapping(PythonJson json, string? text)
    {
        if (text is null)
        {
            json.Null();
            return;
        }

        using JsonDocument document = ConfigJson.ParseObject(Encoding.UTF8.GetBytes(text), "auto_mapping");
        json.Element(document.RootElement);
    }
}
