using System.Text.Json;
using Engine.Transformer.Safetensors;

namespace Engine.Lora.Tests;

/// <summary>The fixtures that PyTorch, transformers and PEFT wrote (tests/fixtures/parity).</summary>
internal static class Parity
{
    public static string Root { get; } = Repository.PathOf("tests/fixtures/parity");

    /// <summary>Every adapter directory, relative to <see cref="Root"/>, with the base it belongs to.</summary>
    public static IEnumerable<(string Directory, string Base)> Adapters()
    {
        foreach (string file in Directory.EnumerateFiles(Root, LoraConfig.FileName, SearchOption.AllDirectories).Order(StringComparer.Ordinal))
        {
            string directory = Path.GetDirectoryName(file)!;
            string caseFile = Path.Combine(Path.GetDirectoryName(directory)!, "case.json");
            string model = "arch/llama";
            if (File.Exists(caseFile))
            {
                using JsonDocument json = JsonDocument.Parse(File.ReadAllBytes(caseFile));
                model = json.RootElement.TryGetProperty("base", out JsonElement name) ? name.GetString()! : model;
            }

            yield return (Path.GetRelativePath(Root, directory), model);
        }
    }

    public static JsonDocument Json(params string[] path) => JsonDocument.Parse(File.ReadAllBytes(Path.Combine([Root, .. path])));

    /// <summary>The layers of a base model, told from the names and shapes in its checkpoint.</summary>
    public static List<ModuleDescription> Modules(string model)
    {
        using CheckpointReader reader = CheckpointReader.Open(Path.Combine(Root, model));
        using JsonDocument config = Json(model, "config.json");
        bool isGpt2 = config.RootElement.GetProperty("model_type").GetString() == "gpt2";
        var modules = new List<ModuleDescription>();
        foreach ((string name, SafetensorsTensor tensor) in reader.Tensors.Where(t => t.Key.EndsWith(".weight", StringComparison.Ordinal)))
        {
            string path = name[..^".weight".Length];
            ModuleKind kind = path == "lm_head" ? ModuleKind.Head
                : tensor.Shape.Length == 1 ? ModuleKind.Norm
                : path.EndsWith("embed_tokens", StringComparison.Ordinal) || path.EndsWith("wte", StringComparison.Ordinal) ||
                    path.EndsWith("wpe", StringComparison.Ordinal) ? ModuleKind.Embedding
                : isGpt2 ? ModuleKind.Conv1D : ModuleKind.Linear;
            int first = (int)tensor.Shape[0];
            int last = (int)tensor.Shape[^1];
            bool isTransposed = kind is ModuleKind.Conv1D or ModuleKind.Embedding;
            modules.Add(new ModuleDescription(
                path, kind, isTransposed ? first : last, isTransposed ? last : first, reader.Tensors.ContainsKey(path + ".bias")));
        }

        if (!modules.Exists(m => m.Kind == ModuleKind.Head))
        {
            ModuleDescription embedding = modules.Find(m => m.Kind == ModuleKind.Embedding && !m.Path.EndsWith("wpe", StringComparison.Ordinal))!;
            modules.Add(new ModuleDescription("lm_head", ModuleKind.Head, embedding.OutFeatures, embedding.InFeatures));
        }

        return modules;
    }
}
