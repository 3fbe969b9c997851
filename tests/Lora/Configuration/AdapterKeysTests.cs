using Engine.Tensors;

namespace Engine.Lora.Tests;

[Trait("Device", "Cpu")]
public class AdapterKeysTests
{
    [Theory]
    [InlineData("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "model.layers.0.self_attn.q_proj", AdapterPart.LoraA)]
    [InlineData("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", "model.layers.0.self_attn.q_proj", AdapterPart.LoraB)]
    [InlineData("base_model.model.transformer.h.1.attn.c_attn.lora_magnitude_vector", "transformer.h.1.attn.c_attn", AdapterPart.Magnitude)]
    [InlineData("base_model.model.q.lora_magnitude_vector.weight", "q", AdapterPart.Magnitude)]
    [InlineData("base_model.model.transformer.h.1.attn.c_attn.base_layer.bias", "transformer.h.1.attn.c_attn", AdapterPart.Bias)]
    [InlineData("base_model.model.transformer.ln_f.bias", "transformer.ln_f", AdapterPart.Bias)]
    [InlineData("base_model.model.lm_head.weight", "lm_head", AdapterPart.Weight)]
    [InlineData("base_model.model.transformer.ln_f.original_module.bias", "transformer.ln_f", AdapterPart.Duplicate)]
    [InlineData("base_model.model.transformer.ln_f.modules_to_save.bias", "transformer.ln_f", AdapterPart.Duplicate)]
    public void Keys_are_read(string key, string path, AdapterPart part) =>
        Assert.Equal(new AdapterKey(path, part), AdapterKeys.Parse(key));

    [Theory]
    [InlineData(AdapterPart.LoraA, true)]
    [InlineData(AdapterPart.LoraB, true)]
    [InlineData(AdapterPart.Magnitude, true)]
    [InlineData(AdapterPart.Bias, true)]
    [InlineData(AdapterPart.Bias, false)]
    [InlineData(AdapterPart.Weight, false)]
    public void Keys_come_back(AdapterPart part, bool isTargeted) =>
        Assert.Equal(new AdapterKey("a.b", part), AdapterKeys.Parse(AdapterKeys.Format("a.b", part, isTargeted)));

    [Theory]
    [InlineData("base_model.model.model.embed_tokens.lora_embedding_A", "embedding")]
    [InlineData("base_model.model.model.embed_tokens.lora_embedding_B", "embedding")]
    [InlineData("base_model.model.q_proj.lora_B.bias", "lora_bias")]
    [InlineData("base_model.model.q_proj.lora_diag", "KaSA")]
    [InlineData("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", "token rows")]
    [InlineData("base_model.model.model.embed_tokens.base_layer.weight", "resized embedding")]
    [InlineData("base_model.model.q_proj.lora_A.default.weight", "no known kind")]
    [InlineData("base_model.model.q_proj.lora_C.weight", "no known kind")]
    [InlineData("base_model.model.lora_A.weight", "no known kind")]
    [InlineData("base_model.model.q_proj.scale", "no known kind")]
    [InlineData("base_model.model..weight", "no known kind")]
    [InlineData("model.q_proj.lora_A.weight", "expected base_model.model.")]
    [InlineData("", "expected base_model.model.")]
    public void Other_keys_are_errors_that_name_file_and_key(string key, string reason)
    {
        EngineDataException error = Assert.Throws<EngineDataException>(() => AdapterKeys.Parse(key, "dir/adapter_model.safetensors"));
        Assert.StartsWith($"dir/adapter_model.safetensors: tensor \"{key}\"", error.Message, StringComparison.Ordinal);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }

    /// <summary>A bias of a saved module is written once, whatever <c>bias</c> says.</summary>
    [Fact]
    public void Saved_modules_bring_weight_and_bias()
    {
        LoraConfig config = Fixture.Config("\"target_modules\": [\"c_attn\"], \"modules_to_save\": [\"ln_f\", \"wte\", \"h.0.mlp\"], \"bias\": \"all\"");
        List<ModuleDescription> modules = Fixture.Modules("gpt2");
        IReadOnlyList<AdapterTensor> tensors = AdapterKeys.Tensors(config, TargetMatcher.Match(config, modules), modules);
        string[] shapes = [.. tensors.Where(t => t.Key.Contains("ln_f") || t.Key.Contains("wte") || t.Key.Contains("h.0.mlp"))
            .Select(t => $"{t.Key["base_model.model.transformer.".Length..]} [{string.Join(", ", t.Shape)}]")];
        Assert.Equal(
            [
                "wte.weight [96, 16]", "h.0.mlp.c_fc.weight [16, 64]", "h.0.mlp.c_fc.bias [64]", "h.0.mlp.c_proj.weight [64, 16]",
                "h.0.mlp.c_proj.bias [16]", "ln_f.weight [16]", "ln_f.bias [16]",
            ],
            shapes);
    }
}
