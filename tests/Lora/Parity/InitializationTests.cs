using System.Text;
using System.Text.Json;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora.Tests;

/// <summary>First values of A and B: distributed as PEFT draws them, and functions of the seed and the path alone.</summary>
public class InitializationTests
{
    public static TheoryData<int> Statistics => [.. Enumerable.Range(0, 6)];

    [Theory]
    [MemberData(nameof(Statistics))]
    public void A_is_distributed_as_PEFT_draws_it(int index)
    {
        using JsonDocument json = Parity.Json("init_stats.json");
        Assert.Equal(6, json.RootElement.GetArrayLength());
        JsonElement expected = json.RootElement[index];
        int rank = expected.GetProperty("r").GetInt32();
        int width = expected.GetProperty("in_features").GetInt32();
        using AdaptedModel model = Random(width);
        LoraAdapter adapter = model.Add(
            "new", Fixture.Config($$""" "r": {{rank}}, "target_modules": ["v_proj"], "init_lora_weights": {{expected.GetProperty("init_lora_weights").GetRawText()}} """), seed: 3);
        LoraLayer layer = Assert.Single(adapter.Layers);
        Assert.True(expected.GetProperty("b_is_zero").GetBoolean());
        Assert.All(layer.B.Value.ToArray<float>(), b => Assert.Equal(0, b));

        float[] a = layer.A.Value.ToArray<float>();
        Assert.Equal(rank * width, a.Length);
        double mean = a.Average(v => (double)v);
        double deviation = Math.Sqrt(a.Sum(v => (v - mean) * (v - mean)) / (a.Length - 1));
        bool uniform = expected.GetProperty("uniform_bound").ValueKind == JsonValueKind.Number;
        double bound = uniform ? expected.GetProperty("uniform_bound").GetDouble() : double.PositiveInfinity;
        double sigma = uniform ? bound / Math.Sqrt(3) : expected.GetProperty("normal_std").GetDouble();

        // Five standard errors: of a mean σ/√n; of a deviation σ·√((κ − 1)/4n), with kurtosis κ 1.8 (uniform) or 3 (normal).
        double root = Math.Sqrt(a.Length);
        Assert.InRange(mean, -5 * sigma / root, 5 * sigma / root);
        double spread = sigma * Math.Sqrt(((uniform ? 1.8 : 3.0) - 1) / 4) / root;
        Assert.InRange(deviation, sigma - (5 * spread), sigma + (5 * spread));
        Assert.InRange(expected.GetProperty("std").GetDouble(), sigma - (5 * spread), sigma + (5 * spread));
        if (uniform)
        {
            // The chance that none of n draws comes within 10/n of an end of the range (relative to its width) is e⁻¹⁰.
            double near = bound * (1 - (20.0 / a.Length));
            Assert.InRange(a.Max(), near, bound);
            Assert.InRange(a.Min(), -bound, -near);
        }
        else
        {
            // Beyond 3σ lie 0.27% of a normal distribution, beyond 6σ practically nothing.
            Assert.InRange(a.Max(v => Math.Abs(v)), a.Length > 1000 ? 3 * sigma : 2 * sigma, 6 * sigma);
        }
    }

    [Fact]
    public void Values_depend_on_the_seed_and_the_path_alone()
    {
        using AdaptedModel model = ParityRun.Load("arch/llama");
        LoraAdapter few = model.Add("few", Fixture.Config(""" "r": 4, "target_modules": ["v_proj"] """), seed: 5);
        LoraAdapter many = model.Add("many", Fixture.Config(""" "r": 4, "target_modules": "all-linear" """), seed: 5);
        LoraAdapter other = model.Add("other", Fixture.Config(""" "r": 4, "target_modules": ["v_proj"] """), seed: 6);
        using AdaptedModel second = ParityRun.Load("arch/mistral");
        LoraAdapter elsewhere = second.Add("few", Fixture.Config(""" "r": 4, "target_modules": ["v_proj", "q_proj"] """), seed: 5);
        var seen = new HashSet<string>();
        foreach (LoraLayer layer in few.Layers)
        {
            float[] a = layer.A.Value.ToArray<float>();
            Assert.Equal(a, many.Layers.Single(l => l.Path == layer.Path).A.Value.ToArray<float>());
            Assert.Equal(a, elsewhere.Layers.Single(l => l.Path == layer.Path).A.Value.ToArray<float>());
            Assert.NotEqual(a, other.Layers.Single(l => l.Path == layer.Path).A.Value.ToArray<float>());
        }

        Assert.All(many.Layers, l => Assert.True(seen.Add(string.Join(' ', l.A.Value.ToArray<float>()))));
    }

    [Fact]
    public void Without_initialisation_B_is_uniform_too()
    {
        using AdaptedModel model = Random(64);
        LoraAdapter adapter = model.Add(
            "new", Fixture.Config(""" "r": 4, "target_modules": ["v_proj"], "init_lora_weights": false """), seed: 3);
        float[] b = Assert.Single(adapter.Layers).B.Value.ToArray<float>();

        // PyTorch's Linear draws from ±1/√in, and B's input has r columns.
        Assert.InRange(b.Max(v => Math.Abs(v)), 0.5 * (1 - (20.0 / b.Length)), 0.5);
        Assert.InRange(b.Average(), -5 * 0.5 / Math.Sqrt(3 * b.Length), 5 * 0.5 / Math.Sqrt(3 * b.Length));
    }

    /// <summary>A Llama of one thin block whose linears read <paramref name="width"/> columns.</summary>
    private static AdaptedModel Random(int width)
    {
        string config = $$"""
            {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": {{width}}, "intermediate_size": 8,
             "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8, "num_hidden_layers": 1, "vocab_size": 8,
             "max_position_embeddings": 16, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
             "tie_word_embeddings": false}
            """;
        return new AdaptedModel(DecoderModel.Build(
            ModelConfig.Parse(Encoding.UTF8.GetBytes(config)), new RandomParameters(1, 1), DType.F32, TestDevice.Current));
    }
}
