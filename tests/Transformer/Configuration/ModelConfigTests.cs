using System.Text;
using Engine.Tensors;

namespace Engine.Transformer.Tests.Configuration;

[Trait("Device", "Cpu")]
public class ModelConfigTests
{
    private const string Llama = """
        "model_type":"llama","vocab_size":100,"hidden_size":64,"num_hidden_layers":3,"num_attention_heads":8,"intermediate_size":96
        """;

    private const string Gpt2 = """
        "model_type":"gpt2","vocab_size":100,"n_embd":64,"n_layer":2,"n_head":4,"n_positions":32
        """;

    private static ModelConfig Parse(string fields) => ModelConfig.Parse(Encoding.UTF8.GetBytes($"{{{fields}}}"));

    private static string Message(string fields) => Assert.Throws<EngineDataException>(() => Parse(fields)).Message;

    [Fact]
    public void Llama_3_1()
    {
        ModelConfig config = Parse("""
            "architectures":["LlamaForCausalLM"],"attention_bias":false,"attention_dropout":0.0,"bos_token_id":128000,
            "eos_token_id":[128001,128008,128009],"hidden_act":"silu","hidden_size":4096,"initializer_range":0.02,
            "intermediate_size":14336,"max_position_embeddings":131072,"mlp_bias":false,"model_type":"llama",
            "num_attention_heads":32,"num_hidden_layers":32,"num_key_value_heads":8,"pretraining_tp":1,"rms_norm_eps":1e-05,
            "rope_scaling":{"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192,"rope_type":"llama3"},
            "rope_theta":500000.0,"tie_word_embeddings":false,"torch_dtype":"bfloat16","use_cache":true,"vocab_size":128256
            """);
        Assert.Equal(ModelFamily.Llama, config.Family);
        Assert.Equal((128256, 4096, 32, 32, 8, 128, 14336, 131072), (config.VocabularySize, config.HiddenSize, config.LayerCount, config.HeadCount, config.KeyValueHeadCount, config.HeadDim, config.IntermediateSize, config.MaxPositions));
        Assert.Equal((NormKind.RmsNorm, 1e-5, ActivationKind.Silu, true, PositionKind.Rope), (config.Norm, config.NormEps, config.Activation, config.GatedMlp, config.Positions));
        Assert.Equal(500000, config.RopeTheta);
        Assert.Equal(new RopeScaling(RopeScalingKind.Llama3, 8, 1, 4, 8192), config.RopeScaling);
        Assert.False(config.QueryBias || config.KeyBias || config.ValueBias || config.OutputBias || config.MlpBias || config.QkNorm || config.TieWordEmbeddings);
        Assert.Equal(128000, config.BosTokenId);
        Assert.Equal([128001, 128008, 128009], config.EosTokenIds);
        Assert.Null(config.PadTokenId);
        Assert.Equal(DType.BF16, config.StorageDType);
        Assert.Equal(0, config.WindowOf(31));
        Assert.Equal(1 / Math.Sqrt(128), config.AttentionScale);
    }

    [Fact]
    public void Llama_defaults_and_biases()
    {
        ModelConfig config = Parse(Llama);
        Assert.Equal((8, 8, 2048, 1e-6, 10000.0), (config.KeyValueHeadCount, config.HeadDim, config.MaxPositions, config.NormEps, config.RopeTheta));
        Assert.Null(config.RopeScaling);
        Assert.Null(config.StorageDType);
        config = Parse(Llama + """,  "attention_bias":true,"mlp_bias":true,"head_dim":10,"num_key_value_heads":2,"tie_word_embeddings":true,"pad_token_id":-1,"eos_token_id":2""");
        Assert.True(config.QueryBias && config.KeyBias && config.ValueBias && config.OutputBias && config.MlpBias && config.TieWordEmbeddings);
        Assert.Equal((10, 2), (config.HeadDim, config.KeyValueHeadCount));
        Assert.Null(config.PadTokenId);
        Assert.Equal([2], config.EosTokenIds);
    }

    [Fact]
    public void Gpt2_fields()
    {
        ModelConfig config = Parse(Gpt2 + ""","architectures":["GPT2LMHeadModel"],"reorder_and_upcast_attn":true,"attn_pdrop":0.2,"embd_pdrop":0,"resid_pdrop":0.3,"bos_token_id":50256,"eos_token_id":50256""");
        Assert.Equal((64, 2, 4, 4, 16, 256, 32), (config.HiddenSize, config.LayerCount, config.HeadCount, config.KeyValueHeadCount, config.HeadDim, config.IntermediateSize, config.MaxPositions));
        Assert.Equal((NormKind.LayerNorm, 1e-5, ActivationKind.GeluTanh, false, PositionKind.Learned), (config.Norm, config.NormEps, config.Activation, config.GatedMlp, config.Positions));
        Assert.True(config.QueryBias && config.KeyBias && config.ValueBias && config.OutputBias && config.MlpBias && config.TieWordEmbeddings);
        Assert.Equal((0.2, 0.0, 0.3), (config.AttentionDropout, config.EmbeddingDropout, config.ResidualDropout));
        Assert.Equal(0.25, config.AttentionScale);
        config = Parse(Gpt2 + ""","n_inner":100,"activation_function":"gelu","scale_attn_weights":false,"layer_norm_epsilon":1e-3""");
        Assert.Equal((100, ActivationKind.Gelu, 1.0, 1e-3), (config.IntermediateSize, config.Activation, config.AttentionScale, config.NormEps));
    }

    [Fact]
    public void Mistral_slides_in_every_layer()
    {
        string mistral = Llama.Replace("llama", "mistral", StringComparison.Ordinal);
        Assert.Equal([4096, 4096, 4096], Parse(mistral).LayerWindows);
        Assert.Equal([7, 7, 7], Parse(mistral + ""","sliding_window":7""").LayerWindows);
        Assert.Empty(Parse(mistral + ""","sliding_window":null""").LayerWindows);
        Assert.Equal([0, 7, 0], Parse(mistral + ""","sliding_window":7,"layer_types":["full_attention","sliding_attention","full_attention"]""").LayerWindows);
        Assert.Equal(8, Parse(mistral).KeyValueHeadCount);
        Assert.Equal(2, Parse(mistral + ""","num_key_value_heads":2""").KeyValueHeadCount);
        Assert.Equal(8, Parse(mistral + ""","num_key_value_heads":null""").KeyValueHeadCount);
    }

    [Fact]
    public void Qwen2_has_biases_on_q_k_v_and_a_window_on_request()
    {
        string qwen = Llama.Replace("llama", "qwen2", StringComparison.Ordinal) + ""","num_key_value_heads":2""";
        ModelConfig config = Parse(qwen + ""","sliding_window":5,"max_window_layers":1""");
        Assert.True(config.QueryBias && config.KeyBias && config.ValueBias);
        Assert.False(config.OutputBias || config.QkNorm);
        Assert.Empty(config.LayerWindows);
        Assert.Equal([0, 5, 5], Parse(qwen + ""","use_sliding_window":true,"sliding_window":5,"max_window_layers":1""").LayerWindows);
        Assert.Empty(Parse(qwen + ""","use_sliding_window":true,"sliding_window":5,"max_window_layers":3""").LayerWindows);
        Assert.Equal([5, 0, 5], Parse(qwen + ""","use_sliding_window":true,"sliding_window":5,"layer_types":["sliding_attention","full_attention","sliding_attention"]""").LayerWindows);
        Assert.Empty(Parse(qwen + ""","use_sliding_window":false,"sliding_window":5,"layer_types":["full_attention","full_attention","full_attention"]""").LayerWindows);
    }

    [Fact]
    public void Qwen3_has_qk_norm_and_its_own_head_dim()
    {
        string qwen = Llama.Replace("llama", "qwen3", StringComparison.Ordinal) + ""","num_key_value_heads":4""";
        ModelConfig config = Parse(qwen);
        Assert.True(config.QkNorm);
        Assert.False(config.QueryBias || config.OutputBias);
        Assert.Equal(128, config.HeadDim);
        Assert.Equal(24, Parse(qwen + ""","head_dim":24""").HeadDim);
        Assert.Equal(8, Parse(qwen + ""","head_dim":null""").HeadDim);
        config = Parse(qwen + ""","attention_bias":true""");
        Assert.True(config.QueryBias && config.OutputBias);
    }

    [Theory]
    [InlineData("""  "rope_theta":5e5,"rope_scaling":null  """, 5e5, null)]
    [InlineData("""  "rope_theta":20000,"rope_scaling":{"type":"linear","factor":2.5}  """, 20000, 2.5)]
    [InlineData("""  "rope_scaling":{"rope_type":"default"}  """, 10000, null)]
    [InlineData("""  "rope_parameters":{"rope_theta":1e6,"rope_type":"default"}  """, 1e6, null)]
    [InlineData("""  "rope_parameters":{"rope_theta":1e6}  """, 1e6, null)]
    [InlineData("""  "rope_parameters":{"rope_theta":1e6,"rope_type":"linear","factor":4}  """, 1e6, 4.0)]
    [InlineData("""  "rope_theta":1e6,"rope_scaling":{"type":"linear","factor":4},"rope_parameters":{"rope_theta":1e6,"rope_type":"linear","factor":4.0}  """, 1e6, 4.0)]
    public void Rope_in_both_spellings(string fields, double theta, double? factor)
    {
        ModelConfig config = Parse($"{Llama},{fields}");
        Assert.Equal(theta, config.RopeTheta);
        Assert.Equal(factor is { } f ? new RopeScaling(RopeScalingKind.Linear, f) : null, config.RopeScaling);
    }

    [Fact]
    public void Rope_parameters_carry_llama3()
    {
        ModelConfig config = Parse(Llama + ""","rope_parameters":{"factor":32.0,"high_freq_factor":4.0,"low_freq_factor":1.0,"original_max_position_embeddings":8192,"rope_theta":500000.0,"rope_type":"llama3"}""");
        Assert.Equal((500000, new RopeScaling(RopeScalingKind.Llama3, 32, 1, 4, 8192)), (config.RopeTheta, config.RopeScaling));
    }

    [Theory]
    [InlineData(""" "vocab_size":1 """, "model_type is missing; one of gpt2, llama, mistral, qwen2, qwen3")]
    [InlineData(""" "model_type":"bert" """, "model_type is \"bert\"")]
    [InlineData(""" "model_type":5 """, "model_type is 5; a string")]
    [InlineData(""" "architectures":["BloomForCausalLM"] """, "architectures is [\"BloomForCausalLM\"]; one of the supported architectures (gpt2, llama, mistral, qwen2, qwen3)")]
    [InlineData(""" "model_type":"llama","architectures":["LlamaForSequenceClassification"] """, "LlamaForCausalLM is needed")]
    [InlineData(""" "model_type":"llama","quantization_config":{"bits":4} """, "quantization_config is {\"bits\":4}; a model that is not quantised")]
    [InlineData(""" "model_type":"llama","hidden_size":0 """, "hidden_size is 0; a positive integer")]
    [InlineData(""" "model_type":"llama","hidden_size":-8 """, "hidden_size is -8")]
    [InlineData(""" "model_type":"llama","hidden_size":"64" """, "hidden_size is \"64\"")]
    [InlineData(""" "model_type":"llama","hidden_size":6.5 """, "hidden_size is 6.5")]
    [InlineData(""" "model_type":"llama","hidden_size":99999999999 """, "hidden_size is 99999999999")]
    [InlineData(""" "model_type":"llama" """, "hidden_size is missing; a positive integer")]
    [InlineData(""" "model_type":"llama","model_type":"llama" """, "not valid JSON")]
    [InlineData("L, \"hidden_act\":\"relu\"", "hidden_act is \"relu\"; one of silu, gelu")]
    [InlineData("L, \"num_key_value_heads\":3", "num_attention_heads (8) is not a multiple of num_key_value_heads (3)")]
    [InlineData("L, \"head_dim\":7", "head_dim is 7; rotary")]
    [InlineData("L, \"head_dim\":1000000000", "over 2147483647")]
    [InlineData("L, \"rms_norm_eps\":0", "rms_norm_eps is 0; a number over 0")]
    [InlineData("L, \"rms_norm_eps\":1e999", "rms_norm_eps is 1e999; a finite number")]
    [InlineData("L, \"attention_dropout\":1.5", "attention_dropout is 1.5; a probability")]
    [InlineData("L, \"attention_bias\":1", "attention_bias is 1; true or false")]
    [InlineData("L, \"eos_token_id\":[1,\"x\"]", "eos_token_id[1] is \"x\"; an integer")]
    [InlineData("L, \"torch_dtype\":\"int8\"", "torch_dtype is \"int8\"; one of float32")]
    [InlineData(""" "model_type":"llama","hidden_size":8,"num_hidden_layers":2147483647 """, "num_hidden_layers is 2147483647; an integer from 1 to 10000")]
    [InlineData("L, \"rope_theta\":-1", "rope_theta is -1")]
    [InlineData("L, \"rope_scaling\":[]", "rope_scaling is []; an object")]
    [InlineData("L, \"rope_scaling\":{\"type\":\"yarn\",\"factor\":2}", "rope_scaling.type is \"yarn\"; one of default, linear, llama3")]
    [InlineData("L, \"rope_scaling\":{\"rope_type\":\"dynamic\",\"factor\":2}", "rope_scaling.rope_type is \"dynamic\"")]
    [InlineData("L, \"rope_parameters\":{\"rope_type\":\"longrope\"}", "rope_parameters.rope_type is \"longrope\"")]
    [InlineData("L, \"rope_scaling\":{\"factor\":2}", "rope_scaling.type is missing")]
    [InlineData("L, \"rope_scaling\":{\"type\":\"linear\"}", "rope_scaling.factor is missing")]
    [InlineData("L, \"rope_scaling\":{\"type\":\"linear\",\"factor\":0}", "rope_scaling.factor is 0")]
    [InlineData("L, \"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":1,\"original_max_position_embeddings\":8}", "high_freq_factor is 1; a number over low_freq_factor (4)")]
    [InlineData("L, \"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4}", "original_max_position_embeddings is missing")]
    [InlineData("L, \"rope_theta\":1,\"rope_parameters\":{\"rope_theta\":2}", "they must agree")]
    [InlineData("L, \"rope_scaling\":{\"type\":\"linear\",\"factor\":2},\"rope_parameters\":{\"rope_theta\":2}", "disagree")]
    [InlineData("L, \"rope_parameters\":{\"partial_rotary_factor\":0.5}", "partial_rotary_factor is 0.5")]
    [InlineData("G, \"scale_attn_by_inverse_layer_idx\":true", "scale_attn_by_inverse_layer_idx is true; false")]
    [InlineData("G, \"n_head\":4,\"n_head\":4", "not valid JSON")]
    [InlineData("G, \"activation_function\":\"relu\"", "activation_function is \"relu\"")]
    [InlineData("G, \"n_inner\":0", "n_inner is 0")]
    [InlineData("G, \"add_cross_attention\":true", "add_cross_attention is true")]
    [InlineData(""" "model_type":"gpt2","n_embd":10,"n_head":3 """, "n_embd (10) is not a multiple of n_head (3)")]
    [InlineData("Q, \"layer_types\":[\"full_attention\"]", "layer_types has 1 entries; num_hidden_layers is 3")]
    [InlineData("Q, \"layer_types\":[\"full_attention\",\"linear_attention\",\"full_attention\"]", "layer_types[1] is \"linear_attention\"")]
    [InlineData("Q, \"layer_types\":[\"sliding_attention\",\"full_attention\",\"full_attention\"]", "no sliding_window is in use")]
    [InlineData("Q, \"use_sliding_window\":true,\"sliding_window\":0", "sliding_window is 0; a positive integer")]
    public void Explains_what_is_wrong(string fields, string expected)
    {
        string message = Message(fields[0] switch
        {
            'L' => Llama + fields[1..],
            'G' => Gpt2 + fields[1..],
            'Q' => Llama.Replace("llama", "qwen2", StringComparison.Ordinal) + ",\"num_key_value_heads\":2" + fields[1..],
            _ => fields,
        });
        Assert.StartsWith("config.json: ", message);
        Assert.Contains(expected, message);
    }

    [Fact]
    public void Heads_must_divide_the_hidden_size_when_there_is_no_head_dim() =>
        Assert.Contains("hidden_size (65) is not a multiple of num_attention_heads (8)", Message(Llama.Replace("64", "65", StringComparison.Ordinal)));

    [Fact]
    public void Written_configuration_is_read_back()
    {
        using var directory = new TemporaryDirectory();
        string path = directory.File("config.json");
        ModelConfig config = Parse(Llama + ""","rope_theta":12345.5,"rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":8},"attention_bias":true,"eos_token_id":[1,2],"bos_token_id":0,"torch_dtype":"float16","tie_word_embeddings":true,"num_key_value_heads":2,"rms_norm_eps":1e-5""");
        config.WriteJson(path);
        ModelConfig read = ModelConfig.Load(directory.Path);
        Assert.Equal(config with { OriginalJson = default, EosTokenIds = [], LayerWindows = [] }, read with { OriginalJson = default, EosTokenIds = [], LayerWindows = [] });
        Assert.Equal(config.EosTokenIds, read.EosTokenIds);
        Assert.Throws<NotSupportedException>(() => Parse(Gpt2).WriteJson(path));
    }

    [Fact]
    public void Copy_keeps_every_field_and_sets_the_dtype()
    {
        using var directory = new TemporaryDirectory();
        string path = directory.File("config.json");
        ModelConfig config = Parse(Gpt2 + ""","task_specific_params":{"a":[1,2.50]},"torch_dtype":"float32" """);
        config.CopyJson(path, DType.BF16);
        ModelConfig read = ModelConfig.Load(directory.Path);
        Assert.Equal(DType.BF16, read.StorageDType);
        Assert.Contains("2.50", Encoding.UTF8.GetString(read.OriginalJson.Span));
        Assert.Throws<InvalidOperationException>(() => (config with { OriginalJson = default }).CopyJson(path));
    }

    [Fact]
    public void Generation_defaults_are_optional()
    {
        using var directory = new TemporaryDirectory();
        Assert.Equal(new GenerationDefaults().Temperature, GenerationDefaults.Load(directory.Path).Temperature);
        directory.Write("generation_config.json", """{"temperature":0.7,"top_k":20,"top_p":0.8,"do_sample":true,"repetition_penalty":1.05,"max_new_tokens":64,"eos_token_id":[3,4]}""");
        GenerationDefaults read = GenerationDefaults.Load(directory.Path);
        Assert.Equal((0.7, 20, 0.8, true, 1.05, 64), (read.Temperature, read.TopK, read.TopP, read.DoSample, read.RepetitionPenalty, read.MaxNewTokens));
        Assert.Equal([3, 4], read.EosTokenIds);
        foreach ((string json, string expected) in (ReadOnlySpan<(string, string)>)[("""{"temperature":-1}""", "temperature is -1"), ("""{"top_p":1.5}""", "top_p is 1.5"), ("""{"top_k":-1}""", "top_k is -1"), ("[]", "not a JSON object")])
        {
            directory.Write("generation_config.json", json);
            Assert.Contains(expected, Assert.Throws<EngineDataException>(() => GenerationDefaults.Load(directory.Path)).Message);
        }
    }
}
