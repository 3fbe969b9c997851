using System.Text;
using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora.Tests.Training;

/// <summary>The count of a step's model FLOPs; <c>bench/report/test_report.py</c> has the same figure for Llama 1B.</summary>
public sealed class ModelFlopsTests
{
    private const string Llama = """
        {"model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
         "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
         "tie_word_embeddings": true}
        """;

    private const string Gpt2 = """
        {"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, "n_embd": 1024, "n_layer": 24, "n_head": 16,
         "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5}
        """;

    // 16 layers of 60,817,408 weights and a head of 262,668,288; 24 of 12·1024² and 50257·1024.
    [Theory]
    [InlineData(Llama, 973_078_528 + 262_668_288, 16 * 2048)]
    [InlineData(Gpt2, 301_989_888 + 51_463_168, 24 * 1024)]
    public void Weights_adapter_and_attention_are_counted(string config, long weights, long attended)
    {
        const long Adapter = 11_272_192;
        ModelConfig parsed = ModelConfig.Parse(Encoding.UTF8.GetBytes(config));
        var lora = new ModelFlops(parsed, Adapter, full: false);
        Assert.Equal((2.0 * ((4 * weights) + (6 * Adapter))) + (6.0 * attended * 4), lora.Of([2]));
        Assert.Equal(lora.Of([2]) + lora.Of([5]), lora.Of([2, 5]));
        var full = new ModelFlops(parsed, weights, full: true);
        Assert.Equal((2.0 * 6 * weights) + (6.0 * attended * 4), full.Of([2]));
    }

    [Fact]
    public void Beside_an_adapter_copies_of_base_modules_do_not_count()
    {
        const string Small = """
            {"model_type": "llama", "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
             "tie_word_embeddings": false}
            """;
        using var model = new AdaptedModel(DecoderModel.Build(
            ModelConfig.Parse(Encoding.UTF8.GetBytes(Small)), new RandomParameters(1, 1), DType.F32, TestDevice.Current));
        model.Add("copies", LoraConfig.Parse("""{"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}"""), seed: 1);
        long trained = model.Train("copies").Sum(static p => p.Value.Elements);

        // A [4, 16] and B [16, 4] in two layers; beside them the head's copy [40, 16].
        const long Factors = 2 * 2 * 4 * 16;
        Assert.Equal(Factors + (40 * 16), trained);
        Assert.Equal(new ModelFlops(model.Base.Config, Factors, full: false).Of([7]), ModelFlops.OfTraining(model).Of([7]));
        model.TrainBase();
        Assert.Equal(new ModelFlops(model.Base.Config, 0, full: true).Of([7]), ModelFlops.OfTraining(model).Of([7]));
    }
}
