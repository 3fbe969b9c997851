using System.Globalization;
using System.Text;
using System.Text.Json;
using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Safetensors;
using Engine.Transformer.Tokenization;

namespace Engine.Cli.Tests;

/// <summary>Models and data for the commands.</summary>
internal static class Fixtures
{
    /// <summary>The files that PyTorch, transformers and PEFT wrote.</summary>
    public static string Parity { get; } = Repository.PathOf("tests/fixtures/parity");

    /// <summary>A small Llama of random weights without a tokenizer: vocabulary 71, at most 256 positions.</summary>
    public static string Llama { get; } = Path.Combine(Parity, "arch", "llama");

    /// <summary>Writes rows of token ids: an arithmetic pattern, so that there is something to learn.</summary>
    public static string WriteRows(TemporaryDirectory directory, string name = "rows.jsonl", int rows = 24, int length = 12)
    {
        var text = new StringBuilder();
        for (int r = 0; r < rows; r++)
        {
            int[] ids = [.. Enumerable.Range(0, length).Select(i => (r + (3 * i)) % 71)];
            int[] labels = [.. ids.Select((id, i) => i < 4 ? -100 : id)];
            text.Append(CultureInfo.InvariantCulture, $"{{\"input_ids\":[{string.Join(',', ids)}],\"labels\":[{string.Join(',', labels)}]}}\n");
        }

        return directory.Write(name, text.ToString());
    }

    /// <summary>Copies a model directory, so that a test can damage it.</summary>
    public static string CopyModel(TemporaryDirectory directory, string source, string name = "model")
    {
        string target = directory.File(name);
        Directory.CreateDirectory(target);
        foreach (string file in Directory.EnumerateFiles(source))
        {
            File.Copy(file, Path.Combine(target, Path.GetFileName(file)));
        }

        return target;
    }

    /// <summary>A tiny model with a byte-level tokenizer of its own, for commands that take text.</summary>
    public static string WriteTextModel(TemporaryDirectory directory, string name = "text-model")
    {
        string target = directory.File(name);
        var trainer = new BpeTrainer(300, BpeTrainer.Gpt2Pattern, ["<s>", "</s>"]);
        trainer.Add("select name from people where age is 7. select age from people where name is Ann. select select from from where");
        TokenizerJsonWriter.Write(target, trainer.Train(), "<s>", "</s>", "</s>");
        var config = new ModelConfig
        {
            Family = ModelFamily.Llama,
            VocabularySize = 300,
            HiddenSize = 32,
            LayerCount = 2,
            HeadCount = 4,
            KeyValueHeadCount = 2,
            HeadDim = 8,
            IntermediateSize = 48,
            MaxPositions = 64,
            TieWordEmbeddings = true,
            BosTokenId = 0,
            EosTokenIds = [1],
            PadTokenId = 1,
        };
        using DecoderModel model = DecoderModel.Build(config, new RandomParameters(7, config.LayerCount, 0.2), DType.F32, Device.Cpu);
        model.Save(target);
        return target;
    }

    /// <summary>All values of an F32 tensor in a file.</summary>
    public static float[] ReadFloats(string path, string tensor)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        using Tensor loaded = SafetensorsBridge.Read(file[tensor], DType.F32, Device.Cpu);
        return loaded.ToArray<float>();
    }

    /// <summary>The values of an I64 tensor as lists of its last dimension.</summary>
    public static long[][] ReadRows(string path, string tensor)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        SafetensorsTensor stored = file[tensor];
        long[] all = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, long>(stored.Data).ToArray();
        return [.. all.Chunk((int)stored.Shape[^1])];
    }

    public static JsonDocument Json(params string[] path) => JsonDocument.Parse(File.ReadAllBytes(Path.Combine([Parity, .. path])));
}
