using Engine.Tensors;

namespace Engine.Lora.Tests;

[Trait("Device", "Cpu")]
public class LoraConfigTests
{
    /// <summary>What PEFT's save_pretrained wrote is read and written back byte for byte.</summary>
    [Theory]
    [InlineData("default")]
    [InlineData("list")]
    [InlineData("pattern")]
    [InlineData("scalar")]
    public void A_file_of_peft_comes_back_byte_for_byte(string name)
    {
        string path = Fixture.PathOf($"adapter_config.{name}.json");
        LoraConfig config = LoraConfig.Load(path);
        Assert.Equal(File.ReadAllText(path), config.ToJson());
        Assert.Equal(config, LoraConfig.Parse(config.ToJson()));
    }

    [Fact]
    public void Defaults_are_those_of_peft() =>
        Assert.Equal(
            LoraConfig.Load(Fixture.PathOf("adapter_config.default.json")),
            new LoraConfig { PeftVersion = "0.21.0" });

    [Fact]
    public void Every_field_is_read()
    {
        LoraConfig config = LoraConfig.Load(Fixture.PathOf("adapter_config.list.json"));
        Assert.Equal(16, config.Rank);
        Assert.Equal(32.0, config.Alpha);
        Assert.Equal(0.05, config.Dropout);
        Assert.Equal(NamesOrPattern.FromNames("q_proj"), config.TargetModules);
        Assert.Equal(NamesOrPattern.FromNames("o_proj"), config.ExcludeModules);
        Assert.Equal(OneOrMany.Many(0, 2), config.LayersToTransform);
        Assert.Equal(OneOrMany.One("layers"), config.LayersPattern);
        Assert.Equal([new("down_proj", 4), new("up_proj", 32)], config.RankPattern);
        Assert.Equal([new("up_proj", 12.5)], config.AlphaPattern);
        Assert.True(config.UseRslora);
        Assert.True(config.UseDora);
        Assert.Equal(LoraBias.LoraOnly, config.Bias);
        Assert.Equal(["lm_head", "embed_tokens"], config.ModulesToSave!);
        Assert.Equal(new LoraInit(LoraInitKind.Gaussian), config.Init);
        Assert.Equal("org/modèle", config.BaseModelNameOrPath);
        Assert.Equal("main", config.Revision);
        Assert.Equal("CAUSAL_LM", config.TaskType);
        Assert.True(config.InferenceMode);

        LoraConfig other = LoraConfig.Load(Fixture.PathOf("adapter_config.pattern.json"));
        Assert.Equal(NamesOrPattern.FromPattern(@".*\.(c_attn|c_proj)+"), other.TargetModules);
        Assert.Equal(new LoraInit(LoraInitKind.Pissa, 16), other.Init);
        Assert.Equal(LoraBias.All, other.Bias);
        Assert.True(other.FanInFanOut);
        Assert.Contains("GPT2LMHeadModel", other.AutoMappingJson, StringComparison.Ordinal);
    }

    /// <summary>PEFT's order of patterns decides (first match), so writing must not sort them.</summary>
    [Fact]
    public void Patterns_keep_their_order_in_the_file()
    {
        LoraConfig config = Fixture.Config("""
            "target_modules": ["z"], "rank_pattern": {"z": 1, "a": 2}, "alpha_pattern": {"y": 3, "b": 4}
            """);
        Assert.Equal(["z", "a"], LoraConfig.Parse(config.ToJson()).RankPattern.Select(e => e.Key));
        Assert.Equal(["y", "b"], LoraConfig.Parse(config.ToJson()).AlphaPattern.Select(e => e.Key));
    }

    [Fact]
    public void Saving_writes_the_file_and_leaves_nothing_else()
    {
        string directory = Directory.CreateTempSubdirectory("engine-lora-").FullName;
        try
        {
            string path = Path.Combine(directory, LoraConfig.FileName);
            var config = new LoraConfig { TargetModules = NamesOrPattern.AllLinear, Rank = 3 };
            config.Save(path);
            Assert.Equal(config, LoraConfig.Load(path));
            Assert.Equal([path], Directory.GetFiles(directory));
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Fact]
    public void A_missing_file_is_named()
    {
        string path = Path.Combine(Path.GetTempPath(), "engine-no-such-directory", LoraConfig.FileName);
        EngineDataException error = Assert.Throws<EngineDataException>(() => LoraConfig.Load(path));
        Assert.Contains(path, error.Message, StringComparison.Ordinal);
    }

    /// <summary>Inert values of the fields that Engine does not act on, as PEFT versions from 0.4 on wrote them.</summary>
    [Theory]
    [InlineData("\"megatron_config\": null, \"megatron_core\": \"megatron.core\", \"loftq_config\": {}")]
    [InlineData("\"loftq_config\": null, \"lora_bias\": false, \"trainable_token_indices\": null")]
    [InlineData("\"eva_config\": null, \"corda_config\": null, \"use_qalora\": false, \"qalora_group_size\": 16")]
    [InlineData("\"layer_replication\": null, \"runtime_config\": {\"ephemeral_gpu_offload\": true}")]
    [InlineData("\"target_parameters\": null, \"arrow_config\": null, \"alora_invocation_tokens\": null")]
    [InlineData("\"ensure_weight_tying\": false, \"peft_version\": \"0.17.1\", \"rank_pattern\": null")]
    [InlineData("\"enable_lora\": null, \"merge_weights\": false, \"some_later_field\": []")]
    public void Fields_without_effect_are_accepted(string members) =>
        Assert.Equal(8, Fixture.Config(members + ", \"target_modules\": [\"q_proj\"]").Rank);

    /// <summary>Each is an error that names the file, the field and the value.</summary>
    [Theory]
    [InlineData("megatron_config", "{\"tp\": 2}")]
    [InlineData("loftq_config", "{\"loftq_bits\": 4}")]
    [InlineData("lora_bias", "true")]
    [InlineData("trainable_token_indices", "[1, 2]")]
    [InlineData("eva_config", "{}")]
    [InlineData("corda_config", "{\"cache_file\": null}")]
    [InlineData("lora_ga_config", "{\"scale\": \"stable\"}")]
    [InlineData("use_qalora", "true")]
    [InlineData("qalora_group_size", "32")]
    [InlineData("layer_replication", "[[0, 4]]")]
    [InlineData("target_parameters", "[\"experts.gate_up_proj\"]")]
    [InlineData("arrow_config", "{\"top_k\": 3}")]
    [InlineData("alora_invocation_tokens", "[7]")]
    [InlineData("ensure_weight_tying", "true")]
    [InlineData("use_bdlora", "{\"nblocks\": 2}")]
    [InlineData("velora_config", "{\"num_groups\": 64}")]
    [InlineData("kasa_config", "{\"beta\": 0.1}")]
    [InlineData("monteclora_config", "{\"num_samples\": 8}")]
    [InlineData("enable_lora", "[true, false, true]")]
    [InlineData("some_later_field", "1")]
    [InlineData("peft_type", "\"IA3\"")]
    [InlineData("r", "0")]
    [InlineData("r", "8.5")]
    [InlineData("r", "\"8\"")]
    [InlineData("r", "99999999999")]
    [InlineData("lora_alpha", "0")]
    [InlineData("lora_alpha", "-1")]
    [InlineData("lora_alpha", "1e999")]
    [InlineData("lora_dropout", "1.0")]
    [InlineData("lora_dropout", "-0.1")]
    [InlineData("bias", "\"some\"")]
    [InlineData("bias", "null")]
    [InlineData("use_dora", "1")]
    [InlineData("use_rslora", "\"yes\"")]
    [InlineData("task_type", "\"SEQ_CLS\"")]
    [InlineData("init_lora_weights", "\"olora\"")]
    [InlineData("init_lora_weights", "\"loftq\"")]
    [InlineData("init_lora_weights", "\"pissa_niter_0\"")]
    [InlineData("init_lora_weights", "\"pissa_niter_x\"")]
    [InlineData("init_lora_weights", "null")]
    [InlineData("target_modules", "[]")]
    [InlineData("target_modules", "\"\"")]
    [InlineData("target_modules", "[\"\"]")]
    [InlineData("target_modules", "[1]")]
    [InlineData("target_modules", "{}")]
    [InlineData("target_modules", "\"(unclosed\"")]
    [InlineData("target_modules", "\"[unclosed\"")]
    [InlineData("target_modules", "\"a\\\\\"")]
    [InlineData("target_modules", "\"a++\"")]
    [InlineData("target_modules", "\"(?<name>a)\"")]
    [InlineData("target_modules", "\"\\\\p{L}\"")]
    [InlineData("target_modules", "\"a(?i)b\"")]
    [InlineData("target_modules", "\"(?P<n>a)(b)\\\\2\"")]
    [InlineData("exclude_modules", "\"*\"")]
    [InlineData("layers_to_transform", "\"3\"")]
    [InlineData("layers_to_transform", "[1, \"2\"]")]
    [InlineData("layers_to_transform", "[-1]")]
    [InlineData("layers_pattern", "3")]
    [InlineData("rank_pattern", "{\"q_proj\": 0}")]
    [InlineData("rank_pattern", "{\"(\": 4}")]
    [InlineData("rank_pattern", "[4]")]
    [InlineData("alpha_pattern", "{\"q_proj\": -1}")]
    [InlineData("modules_to_save", "\"lm_head\"")]
    [InlineData("modules_to_save", "[\"\"]")]
    [InlineData("modules_to_save", "[\"(\"]")]
    [InlineData("auto_mapping", "3")]
    [InlineData("base_model_name_or_path", "3")]
    [InlineData("base_model_name_or_path", "\"\\ud800\"")]
    public void A_value_that_is_not_supported_is_an_error_that_names_it(string field, string value)
    {
        string targets = field == "target_modules" ? "" : ", \"target_modules\": [\"q_proj\"]";
        string type = field == "peft_type" ? "" : ", \"peft_type\": \"LORA\"";
        EngineDataException error = Assert.Throws<EngineDataException>(
            () => LoraConfig.Parse($"{{\"{field}\": {value}{targets}{type}}}", "dir/adapter_config.json"));
        Assert.StartsWith("dir/adapter_config.json: ", error.Message, StringComparison.Ordinal);
        Assert.Contains(field, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_message_says_what_was_found_and_what_would_be_right()
    {
        EngineDataException error = Assert.Throws<EngineDataException>(() => Fixture.Config("\"use_qalora\": true"));
        Assert.Equal("test.json: field \"use_qalora\" is true; expected false: QALoRA is not supported", error.Message);
        error = Assert.Throws<EngineDataException>(() => Fixture.Config("\"lora_dropout\": 1.5"));
        Assert.Equal("test.json: field \"lora_dropout\" is 1.5; expected a probability in [0, 1)", error.Message);
    }

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("[]")]
    [InlineData("{\"peft_type\": \"LORA\", \"r\": 1, \"r\": 2}")]
    [InlineData("{\"peft_type\": \"LORA\", \"r\": NaN}")]
    [InlineData("{\"r\": 8}")]
    public void A_file_that_is_no_configuration_is_an_error(string json)
    {
        EngineDataException error = Assert.Throws<EngineDataException>(() => LoraConfig.Parse(json, "x.json"));
        Assert.StartsWith("x.json: ", error.Message, StringComparison.Ordinal);
    }

    /// <summary>What PEFT's LoraConfig.__post_init__ raises a ValueError for.</summary>
    [Fact]
    public void What_peft_refuses_is_refused()
    {
        int count = 0;
        foreach (var entry in Fixture.Targets.GetProperty("refused").EnumerateArray())
        {
            Assert.Throws<EngineDataException>(() => Fixture.Config(entry.GetProperty("config")));
            count++;
        }

        Assert.Equal(7, count);
    }

    /// <summary>peft/tuners/lora/layer.py, update_layer: α/r, or α/√r with use_rslora.</summary>
    [Fact]
    public void The_scale_follows_rslora()
    {
        Assert.Equal(2.0, new LoraConfig().Scale(8, 16));
        Assert.Equal(8.0, new LoraConfig { UseRslora = true }.Scale(4, 16));
        Assert.Throws<ArgumentOutOfRangeException>(() => new LoraConfig().Scale(0, 16));
    }

    [Theory]
    [InlineData("q_proj,v_proj", null)]
    [InlineData(" q_proj , v_proj ,", null)]
    [InlineData("all-linear", "all-linear")]
    [InlineData("All-Linear", "All-Linear")]
    [InlineData(".*(q|v)_proj", ".*(q|v)_proj")]
    public void An_argument_is_names_or_a_pattern(string text, string? pattern)
    {
        NamesOrPattern value = NamesOrPattern.FromText(text);
        Assert.Equal(pattern, value.Pattern);
        Assert.Equal(pattern is null ? ["q_proj", "v_proj"] : null, value.Names);
        Assert.Equal(text.Equals("all-linear", StringComparison.OrdinalIgnoreCase), value.IsAllLinear);
    }

    /// <summary>Python's repr of a float, at the points where .NET's "R" differs.</summary>
    [Theory]
    [InlineData(0.0, "0.0")]
    [InlineData(0.05, "0.05")]
    [InlineData(0.0001, "0.0001")]
    [InlineData(0.00001, "1e-05")]
    [InlineData(1.5e-7, "1.5e-07")]
    [InlineData(12.5, "12.5")]
    [InlineData(-0.00123, "-0.00123")]
    [InlineData(0.1 + 0.2, "0.30000000000000004")]
    [InlineData(1200, "1200.0")]
    [InlineData(123456789012345680, "1.2345678901234568e+17")]
    [InlineData(5e-324, "5e-324")]
    [InlineData(1e15, "1000000000000000.0")]
    [InlineData(1e16, "1e+16")]
    [InlineData(1e100, "1e+100")]
    public void Floats_are_written_as_python_writes_them(double value, string expected)
    {
        var config = new LoraConfig { Dropout = value };
        Assert.Equal(expected, config.ToJson().Split("\"lora_dropout\": ")[1].Split(',')[0]);
    }
}
