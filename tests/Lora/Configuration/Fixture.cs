using System.Text.Json;

namespace Engine.Lora.Tests;

/// <summary>Files that PEFT's own code wrote; Fixtures/make_fixtures.py reproduces them.</summary>
internal static class Fixture
{
    private static readonly JsonDocument s_targets = JsonDocument.Parse(File.ReadAllBytes(PathOf("targets.json")));

    public static JsonElement Targets => s_targets.RootElement;

    public static string PathOf(string name) =>
        Path.Combine(AppContext.BaseDirectory, "Configuration", "Fixtures", name);

    /// <summary>The layers of the model <paramref name="name"/>: "llama" (12 blocks) or "gpt2" (3 blocks).</summary>
    public static List<ModuleDescription> Modules(string name) =>
        [.. Targets.GetProperty("models").GetProperty(name).EnumerateArray().Select(m => new ModuleDescription(
            m[0].GetString()!,
            Enum.Parse<ModuleKind>(m[1].GetString()!),
            m[2].GetInt32(),
            m[3].GetInt32(),
            m[4].GetBoolean()))];

    /// <summary>A configuration from the fields of a fixture, with PEFT's type added.</summary>
    public static LoraConfig Config(JsonElement fields) => LoraConfig.Parse(WithType(fields.GetRawText()), "test.json");

    /// <summary>A configuration from fields written as JSON members.</summary>
    public static LoraConfig Config(string members) => LoraConfig.Parse(WithType($"{{{members}}}"), "test.json");

    private static string WithType(string json) =>
        json is "{}" ? """{"peft_type": "LORA"}""" : $$"""{"peft_type": "LORA", {{json.Trim()[1..]}}""";
}
