using System.Runtime.InteropServices;
using System.Text.Json;
using Engine.Tensors;
using Engine.Transformer.Safetensors;

namespace Engine.Transformer.Tests.Parity;

/// <summary>One architecture's directory in tests/fixtures/parity/arch: a model and what transformers computes with it.</summary>
internal sealed class ArchitectureFixture : IDisposable
{
    private readonly SafetensorsFile _tensors;
    private readonly JsonDocument _document;

    public ArchitectureFixture(string name)
    {
        Directory = Path.Combine(Root, name);
        _tensors = SafetensorsFile.Open(Path.Combine(Directory, "expected.safetensors"));
        _document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Directory, "expected.json")));
    }

    /// <summary>tests/fixtures/parity/arch.</summary>
    public static string Root { get; } = Repository.PathOf("tests/fixtures/parity/arch");

    /// <summary>Every architecture there is a directory for.</summary>
    public static TheoryData<string> Names
    {
        get
        {
            string[] names = [.. System.IO.Directory.GetDirectories(Root).Select(d => Path.GetFileName(d)!).Order(StringComparer.Ordinal)];
            Assert.True(names.Length >= 12, $"{Root} has only {names.Length} architectures");
            return [.. names];
        }
    }

    public string Directory { get; }

    public JsonElement Json => _document.RootElement;

    /// <summary>
    /// How far transformers' float32 logits are from those of the same model in float64: the size of rounding's effect.
    /// </summary>
    public double Float32Error => Json.GetProperty("facts").GetProperty("float64_max_diff").GetDouble();

    public bool Has(string name) => _tensors.TryGet(name, out _);

    public int[] Ids(string name) => [.. MemoryMarshal.Cast<byte, long>(_tensors[name].Data).ToArray().Select(i => checked((int)i))];

    public float[] Floats(string name) => MemoryMarshal.Cast<byte, float>(_tensors[name].Data).ToArray();

    public int[] Shape(string name) => [.. _tensors[name].Shape.ToArray().Select(d => checked((int)d))];

    public DecoderModel Load(DType dtype = DType.F32) => DecoderModel.Load(Directory, dtype, TestDevice.Current);

    public static int[] Ints(JsonElement list) => [.. list.EnumerateArray().Select(e => e.GetInt32())];

    public static int[][] Rows(JsonElement list) => [.. list.EnumerateArray().Select(Ints)];

    public void Dispose()
    {
        _tensors.Dispose();
        _document.Dispose();
    }
}
