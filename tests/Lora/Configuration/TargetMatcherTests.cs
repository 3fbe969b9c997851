using System.Text.Json;
using Engine.Tensors;

namespace Engine.Lora.Tests;

[Trait("Device", "Cpu")]
public class TargetMatcherTests
{
    /// <summary>
    /// Each case was decided by PEFT's check_target_module_exists and get_pattern_key (Fixtures/make_fixtures.py);
    /// the layers selected, their rank and α and the layers saved in full must be the same.
    /// </summary>
    [Fact]
    public void Selection_is_that_of_peft()
    {
        int count = 0;
        foreach (JsonElement entry in Fixture.Targets.GetProperty("cases").EnumerateArray())
        {
            string name = entry.GetProperty("config").GetRawText();
            LoraConfig config = Fixture.Config(entry.GetProperty("config"));
            List<ModuleDescription> modules = Fixture.Modules(entry.GetProperty("model").GetString()!);
            if (entry.TryGetProperty("error", out JsonElement error))
            {
                EngineDataException thrown = Assert.Throws<EngineDataException>(() => TargetMatcher.Match(config, modules));
                string expected = error.GetString() switch
                {
                    "nothing" => "matches no module",
                    "both" => "adapts; expected whole names",
                    _ => "expected",
                };
                Assert.Contains(expected, thrown.Message, StringComparison.Ordinal);
            }
            else
            {
                TargetMatch match = TargetMatcher.Match(config, modules);
                var expected = entry.GetProperty("targets").EnumerateArray()
                    .Select(t => $"{t[0].GetString()} {t[1].GetInt32()} {t[2].GetDouble()}");
                Assert.True(
                    expected.SequenceEqual(match.Targets.Select(t => $"{t.Module.Path} {t.Rank} {t.Alpha}")),
                    $"{name}: {string.Join(", ", match.Targets.Select(t => $"{t.Module.Path} {t.Rank} {t.Alpha}"))}");
                Assert.Equal(
                    entry.GetProperty("saved").EnumerateArray().Select(s => s.GetString()!),
                    match.Saved.Select(m => m.Path));
                Assert.All(match.Targets, t => Assert.Equal(t.Alpha / t.Rank, t.Scale));
            }

            count++;
        }

        Assert.True(count >= 55, $"only {count} cases");
    }

    /// <summary>_maybe_include_all_linear_layers: every Linear and Conv1D but the output embedding, in any letter case.</summary>
    [Theory]
    [InlineData("llama", "all-linear", 7 * 12)]
    [InlineData("llama", "ALL-Linear", 7 * 12)]
    [InlineData("gpt2", "all-linear", 4 * 3)]
    public void All_linear_takes_every_linear_layer_but_the_head(string model, string pattern, int count)
    {
        var config = new LoraConfig { TargetModules = NamesOrPattern.FromPattern(pattern) };
        TargetMatch match = TargetMatcher.Match(config, Fixture.Modules(model));
        Assert.Equal(count, match.Targets.Count);
        Assert.All(match.Targets, t => Assert.True(t.Module.Kind is ModuleKind.Linear or ModuleKind.Conv1D));
        Assert.Equal(model == "gpt2", match.FanInFanOut);
    }

    [Fact]
    public void All_linear_heeds_exclusions()
    {
        LoraConfig config = Fixture.Config("""
            "target_modules": "all-linear", "exclude_modules": ["down_proj"], "modules_to_save": ["mlp.up_proj"]
            """);
        TargetMatch match = TargetMatcher.Match(config, Fixture.Modules("llama"));
        Assert.Equal(5 * 12, match.Targets.Count);
        Assert.Equal(12, match.Saved.Count);
    }

    /// <summary>TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.</summary>
    [Theory]
    [InlineData("gpt2", "gpt2", "c_attn")]
    [InlineData("llama", "llama", "q_proj,v_proj")]
    [InlineData("llama", "mistral", "q_proj,v_proj")]
    [InlineData("llama", "qwen2", "q_proj,v_proj")]
    [InlineData("llama", "qwen3", "q_proj,v_proj")]
    public void Null_targets_mean_the_model_types_default(string model, string type, string names)
    {
        TargetMatch match = TargetMatcher.Match(new LoraConfig(), Fixture.Modules(model), type);
        Assert.Equal(
            names.Split(','),
            match.Targets.Select(t => t.Module.Path[(t.Module.Path.LastIndexOf('.') + 1)..]).Distinct());
    }

    [Fact]
    public void Null_targets_without_a_default_are_an_error()
    {
        EngineDataException error = Assert.Throws<EngineDataException>(
            () => TargetMatcher.Match(new LoraConfig(), Fixture.Modules("llama"), "bloom", "a.json"));
        Assert.Contains("a.json", error.Message, StringComparison.Ordinal);
        Assert.Contains("\"bloom\"", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void When_nothing_matches_the_targets_and_the_names_that_exist_are_listed()
    {
        LoraConfig config = Fixture.Config("""
            "target_modules": ["query", "value"], "layers_to_transform": [1], "layers_pattern": "layers"
            """);
        EngineDataException error = Assert.Throws<EngineDataException>(
            () => TargetMatcher.Match(config, Fixture.Modules("llama"), "llama", "a.json"));
        Assert.Equal(
            "a.json: field \"target_modules\" is [query, value], restricted to \"layers_to_transform\" [1] under \"layers_pattern\" layers, " +
            "which matches no module of this model. Modules of this model: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, lm_head",
            error.Message);
    }

    [Fact]
    public void An_embedding_is_refused_by_name()
    {
        EngineDataException error = Assert.Throws<EngineDataException>(
            () => TargetMatcher.Match(Fixture.Config("\"target_modules\": [\"q_proj\", \"embed_tokens\"]"), Fixture.Modules("llama")));
        Assert.Contains("model.embed_tokens", error.Message, StringComparison.Ordinal);
        Assert.Contains("an embedding", error.Message, StringComparison.Ordinal);
    }

    /// <summary>PEFT raises "Target module … is not supported" for a container that a pattern catches.</summary>
    [Fact]
    public void A_group_of_layers_is_refused_by_name()
    {
        EngineDataException error = Assert.Throws<EngineDataException>(
            () => TargetMatcher.Match(Fixture.Config("\"target_modules\": \".*(mlp|q_proj)\""), Fixture.Modules("llama")));
        Assert.Contains("model.layers.0.mlp", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Entries_that_select_nothing_are_reported()
    {
        LoraConfig config = Fixture.Config("""
            "target_modules": ["q_proj", "query"], "exclude_modules": ["k_proj", "mlp"], "layers_to_transform": [1, 50],
            "rank_pattern": {"q_proj": 2, "layers.1": 3}, "alpha_pattern": {"v_proj": 4}, "modules_to_save": ["lm_head", "score"]
            """);
        TargetMatch match = TargetMatcher.Match(config, Fixture.Modules("llama"));
        Assert.Equal(
            [
                "target_modules \"query\"", "exclude_modules \"mlp\"", "layers_to_transform \"50\"", "rank_pattern \"layers.1\"",
                "alpha_pattern \"v_proj\"", "modules_to_save \"score\"",
            ],
            match.Unmatched);
    }

    [Theory]
    [InlineData("(h|layers)", "without a capturing group")]
    [InlineData("h|layers", "without its layer index")]
    public void A_layer_pattern_that_hides_the_index_is_refused(string pattern, string reason)
    {
        var config = new LoraConfig
        {
            TargetModules = NamesOrPattern.FromNames("c_attn"),
            LayersToTransform = OneOrMany.One(1),
            LayersPattern = OneOrMany.One(pattern),
        };
        EngineDataException error = Assert.Throws<EngineDataException>(() => TargetMatcher.Match(config, Fixture.Modules("gpt2")));
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_pattern_that_never_ends_is_an_error()
    {
        var config = new LoraConfig { TargetModules = NamesOrPattern.FromPattern("(([a-z._0-9])+)+!") };
        var modules = new List<ModuleDescription> { new(new string('a', 200), ModuleKind.Linear, 1, 1) };
        EngineDataException error = Assert.Throws<EngineDataException>(() => TargetMatcher.Match(config, modules));
        Assert.Contains("takes too long", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Pissa_needs_a_rank_that_the_weight_has()
    {
        LoraConfig config = Fixture.Config("\"target_modules\": [\"k_proj\"], \"r\": 9, \"init_lora_weights\": \"pissa\"");
        EngineDataException error = Assert.Throws<EngineDataException>(() => TargetMatcher.Match(config, Fixture.Modules("llama")));
        Assert.Contains("at most 8", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Rank_and_alpha_patterns_set_the_scale()
    {
        LoraConfig config = Fixture.Config("""
            "target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 8, "use_rslora": true,
            "rank_pattern": {"q_proj": 16}, "alpha_pattern": {"v_proj": 6}
            """);
        TargetMatch match = TargetMatcher.Match(config, Fixture.Modules("llama"));
        Assert.Equal(8 / Math.Sqrt(16), match.Targets[0].Scale);
        Assert.Equal(6 / Math.Sqrt(4), match.Targets[1].Scale);
    }
}
