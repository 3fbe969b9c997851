using System.Text.Json.Nodes;
using Engine.Tensors;
using Engine.Transformer.Safetensors;

namespace Engine.Lora.Tests;

/// <summary>
/// Adapter directories that are damaged or belong to another base: the message names the file and the tensor, and the
/// model is as it was, with nothing left on the device.
/// </summary>
public sealed class AdapterFileErrorTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();
    private readonly CountedDevice _device = new();
    private readonly AdaptedModel _model;
    private readonly string _hash;
    private readonly long _storages;

    public AdapterFileErrorTests()
    {
        _model = ParityRun.Load("arch/llama", device: _device);
        _hash = _model.BaseHash();
        _storages = _device.LiveStorages;
    }

    public void Dispose()
    {
        _model.Dispose();
        _directory.Dispose();
    }

    [Fact]
    public void Missing_files()
    {
        AssertRefused(_directory.File("nowhere"), _directory.File("nowhere"), "no such directory");
        string directory = Copy("qv_default");
        File.Delete(Path.Combine(directory, LoraConfig.FileName));
        AssertRefused(directory, directory, LoraConfig.FileName, "missing");
        directory = Copy("qv_default");
        File.Delete(Path.Combine(directory, AdapterKeys.FileName));
        AssertRefused(directory, directory, AdapterKeys.FileName, "missing");
        File.WriteAllBytes(Path.Combine(directory, "adapter_model.bin"), [0x50, 0x4b, 3, 4]);
        AssertRefused(directory, directory, "adapter_model.bin", "pickle", "safetensors");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(7)]
    [InlineData(100)]
    [InlineData(-1)]
    public void A_truncated_file(int length)
    {
        string directory = Copy("qv_default");
        string path = Path.Combine(directory, AdapterKeys.FileName);
        byte[] bytes = File.ReadAllBytes(path);
        File.WriteAllBytes(path, length < 0 ? bytes[..^1] : bytes[..length]);
        AssertRefused(directory, path);
    }

    [Theory]
    [InlineData("qv_default", "base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight")]
    [InlineData("qv_default", "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight")]
    [InlineData("dora", "base_model.model.model.layers.1.mlp.down_proj.lora_magnitude_vector")]
    [InlineData("modules_to_save_head", "base_model.model.lm_head.weight")]
    [InlineData("modules_to_save_norm", "base_model.model.model.norm.weight")]
    [InlineData("pissa", "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight")]
    public void A_missing_tensor(string name, string key)
    {
        string directory = Copy(name);
        Rewrite(directory, entries => entries.Remove(key));
        AssertRefused(directory, Path.Combine(directory, AdapterKeys.FileName), key);
    }

    [Theory]
    [InlineData("base_model.model.model.layers.1.self_attn.o_proj.lora_A.weight", "o_proj")]
    [InlineData("base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight", "layers.7")]
    [InlineData("base_model.model.lm_head.weight", "lm_head")]
    [InlineData("something.else", "something.else")]
    public void A_tensor_without_a_place(string key, string says)
    {
        foreach (string name in (string[])["qv_default", "pissa", "dora"])
        {
            string directory = Copy(name);
            Rewrite(directory, entries => entries.Add(key, Entry(key, 8, 32)));
            AssertRefused(directory, Path.Combine(directory, AdapterKeys.FileName), key, says);
        }
    }

    [Theory]
    [InlineData("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", 8, 31)]
    [InlineData("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", 32, 8)]
    [InlineData("base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight", 8, 16)]
    public void A_tensor_of_another_shape(string key, int rows, int columns)
    {
        string directory = Copy("qv_default");
        Rewrite(directory, entries => entries[key] = Entry(key, rows, columns));
        AssertRefused(directory, Path.Combine(directory, AdapterKeys.FileName), key, $"[{rows}, {columns}]");
    }

    [Fact]
    public void A_rank_in_the_configuration_that_the_tensors_do_not_have()
    {
        string directory = Copy("qv_default");
        Configure(directory, json => json["r"] = 4);
        AssertRefused(
            directory, Path.Combine(directory, AdapterKeys.FileName), "layers.0.self_attn.q_proj.lora_A.weight", "[8, 32]", "[4, 32]");
    }

    [Fact]
    public void A_field_that_is_not_supported()
    {
        string directory = Copy("qv_default");
        Configure(directory, json => json["use_qalora"] = true);
        AssertRefused(directory, Path.Combine(directory, LoraConfig.FileName), "use_qalora");
    }

    [Fact]
    public void An_adapter_of_another_base()
    {
        // GPT-2's modules do not exist here; qwen3's have other shapes or none.
        string directory = Copy("gpt2_c_attn");
        AssertRefused(directory, Path.Combine(directory, LoraConfig.FileName), "c_attn", "q_proj");
        using AdaptedModel gpt2 = ParityRun.Load("arch/gpt2");
        string message = Assert.Throws<EngineDataException>(() => AdapterFile.Load(gpt2, "x", Copy("qv_default"))).Message;
        Assert.Contains("q_proj", message, StringComparison.Ordinal);
        Assert.Contains("c_attn", message, StringComparison.Ordinal);

        using AdaptedModel qwen3 = ParityRun.Load("arch/qwen3");
        Assert.NotEqual(
            _model.Modules.Single(m => m.Path == "model.layers.0.self_attn.q_proj").OutFeatures,
            qwen3.Modules.Single(m => m.Path == "model.layers.0.self_attn.q_proj").OutFeatures);
        message = Assert.Throws<EngineDataException>(() => AdapterFile.Load(qwen3, "x", Copy("qv_default"))).Message;
        Assert.Contains("q_proj.lora_B.weight", message, StringComparison.Ordinal);
        Assert.Contains("another base", message, StringComparison.Ordinal);
        Assert.Empty(qwen3.Adapters);
    }

    [Fact]
    public void Half_precision_tensors_are_widened()
    {
        string directory = Copy("qv_default");
        LoraAdapter original = AdapterFile.Load(_model, "original", directory);
        Rewrite(directory, entries =>
        {
            foreach ((string key, SafetensorsEntry entry) in entries.ToArray())
            {
                entries[key] = Half(entry);
            }
        });
        LoraAdapter half = AdapterFile.Load(_model, "half", directory);
        foreach ((LoraLayer first, LoraLayer second) in original.Layers.Zip(half.Layers))
        {
            Assert.Equal(DType.F32, second.A.Value.DType);
            Assert.Equal(ParityRun.Floats(first.A.Value).Select(v => (float)(System.Half)v), ParityRun.Floats(second.A.Value));
        }
    }

    [Fact]
    public void A_place_that_cannot_be_written_keeps_nothing()
    {
        LoraAdapter adapter = AdapterFile.Load(_model, "x", Copy("qv_default"));
        string file = _directory.Write("file", "not a directory");
        Assert.Contains(
            file, Assert.Throws<EngineDataException>(() => AdapterFile.Save(adapter, Path.Combine(file, "adapter"))).Message, StringComparison.Ordinal);
        Assert.Equal("not a directory", File.ReadAllText(file));
        Assert.DoesNotContain(Directory.EnumerateFileSystemEntries(_directory.Path), f => f.EndsWith(".tmp", StringComparison.Ordinal));
    }

    private void AssertRefused(string directory, params string[] says)
    {
        string message = Assert.Throws<EngineDataException>(() => AdapterFile.Load(_model, "x", directory)).Message;
        Assert.All(says, s => Assert.Contains(s, message, StringComparison.Ordinal));
        Assert.Empty(_model.Adapters);
        Assert.Equal(_hash, _model.BaseHash());
        Assert.Equal(_storages, _device.LiveStorages);
    }

    /// <summary>A copy of a fixture's adapter to damage.</summary>
    private string Copy(string name)
    {
        string target = _directory.File($"{name}-{Guid.NewGuid():n}");
        Directory.CreateDirectory(target);
        foreach (string file in Directory.GetFiles(ParityRun.PathOf("lora", name, "adapter_init")))
        {
            File.Copy(file, Path.Combine(target, Path.GetFileName(file)));
        }

        return target;
    }

    private static void Rewrite(string directory, Action<Dictionary<string, SafetensorsEntry>> change)
    {
        string path = Path.Combine(directory, AdapterKeys.FileName);
        var entries = new Dictionary<string, SafetensorsEntry>(StringComparer.Ordinal);
        using (SafetensorsFile file = SafetensorsFile.Open(path))
        {
            foreach (SafetensorsTensor tensor in file.Tensors.Values)
            {
                entries.Add(tensor.Name, SafetensorsEntry.FromBytes(tensor.Name, tensor.DType, tensor.Shape, tensor.Data.ToArray()));
            }
        }

        change(entries);
        SafetensorsWriter.Write(path, entries.Values);
    }

    private static void Configure(string directory, Action<JsonNode> change)
    {
        string path = Path.Combine(directory, LoraConfig.FileName);
        JsonNode json = JsonNode.Parse(File.ReadAllText(path))!;
        change(json);
        File.WriteAllText(path, json.ToJsonString());
    }

    private static SafetensorsEntry Entry(string name, int rows, int columns) =>
        SafetensorsEntry.FromBytes(name, DType.F32, [rows, columns], new byte[rows * columns * 4]);

    private static SafetensorsEntry Half(SafetensorsEntry entry)
    {
        using var stream = new MemoryStream();
        entry.Write(stream);
        float[] values = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(stream.ToArray()).ToArray();
        System.Half[] halves = [.. values.Select(v => (System.Half)v)];
        return SafetensorsEntry.FromBytes(
            entry.Name, DType.F16, entry.Shape, System.Runtime.InteropServices.MemoryMarshal.AsBytes<System.Half>(halves).ToArray());
    }
}
