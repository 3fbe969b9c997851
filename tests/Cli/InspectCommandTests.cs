using System.Text.Json;

namespace Engine.Cli.Tests;

public class InspectCommandTests
{
    [Fact]
    public void A_model_shows_its_parameters()
    {
        string text = Command.Run("inspect", Fixtures.Llama).Succeeded();
        Assert.Contains("model.layers.1.mlp.down_proj.weight", text, StringComparison.Ordinal);
        Assert.Contains("[32, 56]", text, StringComparison.Ordinal);
        using JsonDocument json = JsonDocument.Parse(Command.Run("inspect", Fixtures.Llama, "--json").Succeeded());

        // Embedding and head 2·71·32; a layer: q, o 2·32², k, v 2·16·32, MLP 3·56·32, norms 2·32; the final norm 32.
        Assert.Equal((2 * 71 * 32) + (2 * ((2 * 32 * 32) + (2 * 16 * 32) + (3 * 56 * 32) + 64)) + 32, json.RootElement.GetProperty("parameters").GetInt64());
        Assert.Equal("llama", json.RootElement.GetProperty("architecture").GetString());
    }

    [Fact]
    public void An_adapter_shows_the_norm_and_singular_values_of_each_update()
    {
        string adapter = Path.Combine(Fixtures.Parity, "lora", "qv_default", "adapter_final");
        using JsonDocument json = JsonDocument.Parse(Command.Run("inspect", adapter, "--json").Succeeded());
        JsonElement module = json.RootElement.GetProperty("modules")[0];
        string path = module.GetProperty("path").GetString()!;
        Assert.Equal("model.layers.0.self_attn.q_proj", path);
        float[] a = Fixtures.ReadFloats(Path.Combine(adapter, "adapter_model.safetensors"), $"base_model.model.{path}.lora_A.weight");
        float[] b = Fixtures.ReadFloats(Path.Combine(adapter, "adapter_model.safetensors"), $"base_model.model.{path}.lora_B.weight");

        // ‖s·B·A‖_F term by term, in double precision.
        double sum = 0;
        for (int o = 0; o < 32; o++)
        {
            for (int i = 0; i < 32; i++)
            {
                double value = Enumerable.Range(0, 8).Sum(r => (double)b[(o * 8) + r] * a[(r * 32) + i]);
                sum += 4 * value * value;
            }
        }

        Assert.Equal(Math.Sqrt(sum), module.GetProperty("norm").GetDouble(), 1e-9 * Math.Sqrt(sum));
        double[] values = [.. module.GetProperty("singular_values").EnumerateArray().Select(v => v.GetDouble())];
        Assert.Equal(8, values.Length);
        Assert.Equal(values.OrderDescending(), values);
        Assert.Contains("q_proj", Command.Run("inspect", adapter, "--top", "2").Succeeded(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_safetensors_file_can_be_given() => Assert.Contains(
        "logits", Command.Run("inspect", Path.Combine(Fixtures.Llama, "expected.safetensors")).Succeeded(), StringComparison.Ordinal);

    [Fact]
    public void Info_tells_of_the_machine_and_its_libraries()
    {
        string text = Command.Run("info").Succeeded();
        Assert.Contains("libcuda", text, StringComparison.OrdinalIgnoreCase);
        using JsonDocument json = JsonDocument.Parse(Command.Run("info", "--json").Succeeded());
        Assert.Equal(2, json.RootElement.GetProperty("libraries").GetArrayLength());
        Assert.True(json.RootElement.GetProperty("cores").GetInt32() > 0);
        Assert.Equal("cpu", json.RootElement.GetProperty("devices")[0].GetString());
        JsonElement cuda = json.RootElement.GetProperty("cuda");
        string? unavailable = cuda.GetProperty("why_unavailable").GetString();
        Assert.Equal(Engine.Tensors.Cuda.CudaContext.WhyUnavailable(), unavailable);
        Assert.Equal(cuda.GetProperty("available").GetBoolean(), cuda.GetProperty("gpus").GetArrayLength() > 0);
        Assert.Contains(unavailable ?? "compute capability", text, StringComparison.Ordinal);
    }
}
