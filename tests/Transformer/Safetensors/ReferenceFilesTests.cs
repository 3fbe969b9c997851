using Engine.Transformer.Safetensors;

namespace Engine.Transformer.Tests.Safetensors;

/// <summary>Files written by the reference libraries (tests/fixtures/parity, made by its make.py).</summary>
[Trait("Device", "Cpu")]
public class ReferenceFilesTests
{
    private static string Root() => Repository.PathOf("tests/fixtures/parity");

    [Fact]
    public void A_copy_of_a_reference_file_has_the_same_bytes()
    {
        string[] files = Directory.GetFiles(Root(), "*.safetensors", SearchOption.AllDirectories);
        Assert.True(files.Length >= 12, $"only {files.Length} reference files were found");
        foreach (string path in files)
        {
            using SafetensorsFile file = SafetensorsFile.Open(path);
            using var copy = new MemoryStream();
            SafetensorsWriter.Write(copy, file.Tensors.Values.Select(tensor => SafetensorsEntry.CopyOf(tensor)).Reverse(), file.Metadata);
            Assert.True(File.ReadAllBytes(path).AsSpan().SequenceEqual(copy.ToArray()), $"{path}: the copy differs");
        }
    }

    [Fact]
    public void Every_model_opens_and_both_spellings_of_its_configuration_agree()
    {
        string[] models = Directory.GetDirectories(Path.Combine(Root(), "arch"));
        Assert.True(models.Length >= 10, $"only {models.Length} reference models were found");
        foreach (string model in models)
        {
            ModelConfig config = ModelConfig.Load(model);
            ModelConfig older = ModelConfig.Parse(File.ReadAllBytes(Path.Combine(model, "config_old.json")));
            Assert.Equal(Comparable(config), Comparable(older));
            Assert.Equal(config.LayerWindows, older.LayerWindows);
            Assert.Equal(config.EosTokenIds, older.EosTokenIds);
            GenerationDefaults.Load(model);

            using CheckpointReader weights = CheckpointReader.Open(model);
            SafetensorsTensor embedding = weights.Tensors.Values.Single(tensor => tensor.Name.EndsWith("embed_tokens.weight", StringComparison.Ordinal) || tensor.Name.EndsWith("wte.weight", StringComparison.Ordinal));
            Assert.Equal([config.VocabularySize, config.HiddenSize], embedding.Shape.ToArray());
            Assert.Equal(config.StorageDType, embedding.DType);
        }
    }

    [Fact]
    public void Joins_the_shards_of_the_reference()
    {
        using CheckpointReader weights = CheckpointReader.Open(Path.Combine(Root(), "arch", "llama_sharded_fp16"));
        Assert.Equal(3, weights.Files.Count);
        Assert.Equal(weights.Files.Sum(file => file.Tensors.Count), weights.Tensors.Count);
    }

    // Lists compare by identity and are compared beside.
    private static ModelConfig Comparable(ModelConfig config) => config with { OriginalJson = default, LayerWindows = [], EosTokenIds = [] };
}
