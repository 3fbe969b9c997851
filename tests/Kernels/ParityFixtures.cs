using System.Runtime.InteropServices;
using System.Text.Json;

namespace Engine.Kernels.Tests;

/// <summary>
/// What PyTorch wrote for single operations (tests/fixtures/parity/ops, made by its make.py). The safetensors reader
/// belongs to a layer above the kernels; this one trusts its file.
/// </summary>
internal sealed class ParityFixtures
{
    private readonly Dictionary<string, (int[] Shape, double[] Values)> _tensors = [];

    public ParityFixtures()
    {
        byte[] bytes = System.IO.File.ReadAllBytes(File("ops/ops.safetensors"));
        int header = checked((int)BitConverter.ToInt64(bytes));
        using JsonDocument document = JsonDocument.Parse(bytes.AsMemory(8, header));
        foreach (JsonProperty tensor in document.RootElement.EnumerateObject().Where(p => p.Name != "__metadata__"))
        {
            int[] shape = [.. tensor.Value.GetProperty("shape").EnumerateArray().Select(e => e.GetInt32())];
            int[] offsets = [.. tensor.Value.GetProperty("data_offsets").EnumerateArray().Select(e => e.GetInt32())];
            ReadOnlySpan<byte> data = bytes.AsSpan(8 + header + offsets[0], offsets[1] - offsets[0]);
            _tensors[tensor.Name] = (shape, tensor.Value.GetProperty("dtype").GetString() switch
            {
                "F32" => Array.ConvertAll(MemoryMarshal.Cast<byte, float>(data).ToArray(), x => (double)x),
                "F64" => MemoryMarshal.Cast<byte, double>(data).ToArray(),
                "I32" => Array.ConvertAll(MemoryMarshal.Cast<byte, int>(data).ToArray(), x => (double)x),
                "I64" => Array.ConvertAll(MemoryMarshal.Cast<byte, long>(data).ToArray(), x => (double)x),
                "U8" or "BOOL" => Array.ConvertAll(data.ToArray(), x => (double)x),
                _ => throw new NotSupportedException(tensor.Name),
            });
        }
    }

    /// <summary>Names of the cases that begin so.</summary>
    public IEnumerable<string> Cases(string prefix) =>
        _tensors.Keys.Select(k => k[..k.IndexOf('.', StringComparison.Ordinal)]).Where(k => k.StartsWith(prefix, StringComparison.Ordinal)).Distinct();

    public double[] this[string name] => _tensors[name].Values;

    public int[] Shape(string name) => _tensors[name].Shape;

    /// <summary>
    /// Asserts the project's rule: an f32 result is at most twice as far from PyTorch's f64 result as PyTorch's own f32
    /// result is, in the largest element, or 16 units roundoff of the largest magnitude where PyTorch happens to be exact.
    /// </summary>
    public void AssertAsGoodAsReference(string name, double[] actual)
    {
        double[] exact = this[name + "_f64"];
        double[] reference = this[name + "_f32"];
        Assert.Equal(exact.Length, actual.Length);
        double allowed = 16 * Math.Pow(2, -24) * exact.Max(Math.Abs);
        allowed = Math.Max(allowed, 2 * exact.Zip(reference, (x, y) => Math.Abs(x - y)).Max());
        for (int i = 0; i < exact.Length; i++)
        {
            Assert.True(Math.Abs(actual[i] - exact[i]) <= allowed, $"{name}[{i}]: {actual[i]:R}, f64 {exact[i]:R}, allowed {allowed:E2}");
        }
    }

    /// <summary>The parameters of a case in ops.json.</summary>
    public static JsonElement Parameters(string name)
    {
        using JsonDocument document = JsonDocument.Parse(System.IO.File.ReadAllBytes(File("ops/ops.json")));
        return document.RootElement.GetProperty("cases").EnumerateArray()
            .First(c => c.GetProperty("case").GetString() == name).GetProperty("parameters").Clone();
    }

    /// <summary>A file of the fixtures.</summary>
    public static string File(string name) => Repository.PathOf("tests/fixtures/parity/" + name);
}
