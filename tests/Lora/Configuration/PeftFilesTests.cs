using System.Text.Json;
using Engine.Transformer.Safetensors;

namespace Engine.Lora.Tests;

/// <summary>Adapter directories that PEFT 0.21 saved: configuration, names and shapes must come out the same here.</summary>
[Trait("Device", "Cpu")]
public class PeftFilesTests
{
    [Fact]
    public void Configurations_come_back_byte_for_byte()
    {
        int count = 0;
        foreach ((string directory, _) in Parity.Adapters())
        {
            string path = Path.Combine(Parity.Root, directory, LoraConfig.FileName);
            Assert.Equal(File.ReadAllText(path), LoraConfig.Load(path).ToJson());
            count++;
        }

        Assert.True(count >= 60, $"only {count} adapters");
    }

    /// <summary>The tensors that a configuration describes are those in PEFT's file, by name and shape.</summary>
    [Fact]
    public void Tensors_have_the_names_and_shapes_of_the_file()
    {
        int count = 0;
        foreach ((string directory, string model) in Parity.Adapters())
        {
            LoraConfig config = LoraConfig.Load(Path.Combine(Parity.Root, directory, LoraConfig.FileName));
            List<ModuleDescription> modules = Parity.Modules(model);
            TargetMatch match = TargetMatcher.Match(config, modules);
            using SafetensorsFile file = SafetensorsFile.Open(Path.Combine(Parity.Root, directory, AdapterKeys.FileName));
            IReadOnlyList<AdapterTensor> tensors = AdapterKeys.Tensors(config, match, modules);
            string expected = Text(file.Tensors.Select(t => $"{t.Key} [{string.Join(", ", t.Value.Shape.ToArray())}]"));
            Assert.True(
                expected == Text(tensors.Select(t => $"{t.Key} [{string.Join(", ", t.Shape)}]")),
                $"{directory}: expected\n{expected}\nfound\n{Text(tensors.Select(t => $"{t.Key} [{string.Join(", ", t.Shape)}]"))}");
            foreach (AdapterTensor tensor in tensors)
            {
                Assert.Equal(new AdapterKey(tensor.Module.Path, tensor.Part), AdapterKeys.Parse(tensor.Key));
            }

            count++;
        }

        Assert.True(count >= 60, $"only {count} adapters");
    }

    /// <summary>The configuration as the user gave it to PEFT selects the modules that PEFT wrapped, with PEFT's scale.</summary>
    [Fact]
    public void Scales_are_those_of_the_wrapped_modules()
    {
        int count = 0;
        foreach (string directory in Directory.GetDirectories(Path.Combine(Parity.Root, "lora")))
        {
            using JsonDocument json = Parity.Json(directory, "case.json");
            JsonElement root = json.RootElement;
            if (!root.TryGetProperty("scaling", out JsonElement scaling))
            {
                continue;
            }

            string model = root.GetProperty("base").GetString()!;
            using JsonDocument modelConfig = Parity.Json(model, "config.json");
            TargetMatch match = TargetMatcher.Match(
                Fixture.Config(root.GetProperty("peft")), Parity.Modules(model),
                modelConfig.RootElement.GetProperty("model_type").GetString());
            Assert.Equal(
                scaling.EnumerateObject().ToDictionary(m => m.Name, m => m.Value.GetDouble()),
                match.Targets.ToDictionary(t => t.Module.Path, t => t.Scale));
            count++;
        }

        Assert.True(count >= 30, $"only {count} cases");
    }

    private static string Text(IEnumerable<string> lines) => string.Join("\n", lines.Order(StringComparer.Ordinal));
}
