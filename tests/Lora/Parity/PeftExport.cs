using Engine.Tensors;
using Engine.Transformer;
using Engine.Transformer.Safetensors;

namespace Engine.Lora.Tests;

/// <summary>
/// Writes adapters and models as Engine saves them, in the layout of tests/fixtures/parity/check_peft_loads.py, into the
/// directory that the environment variable names (or one that is deleted), and checks that Engine itself loads them to
/// the same logits. That PEFT does is shown by running the script over the directory.
/// </summary>
public class PeftExport
{
    private const string Destination = "ENGINE_PEFT_EXPORT";
    private const int Steps = 3;
    private const double Rate = 1e-2;

    // The script's own tolerance, relative to the largest logit: the parity rule for logits.
    private const double Tolerance = 2e-4;

    private static readonly (int[] Ids, int Rows) s_input = ParityRun.Ids("eval_ids");

    // Name, base, configuration: new adapters that Engine initialises, trains, saves and merges.
    private static readonly (string Name, string Base, string Config)[] s_created =
    [
        ("default", "llama", """ "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"] """),
        ("gaussian", "qwen3", """ "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "k_proj", "down_proj"], "init_lora_weights": "gaussian" """),
        ("all_linear_tied", "llama3", """ "r": 4, "lora_alpha": 8, "target_modules": "all-linear" """),
        ("all_linear_mistral", "mistral", """ "r": 4, "lora_alpha": 8, "target_modules": "all-linear", "lora_dropout": 0.1 """),
        ("all_linear_qwen2", "qwen2", """ "r": 4, "lora_alpha": 8, "target_modules": "all-linear" """),
        ("dora", "llama", """ "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "use_dora": true """),
        ("dora_gpt2", "gpt2", """ "r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "mlp.c_proj"], "use_dora": true, "fan_in_fan_out": true """),
        ("rslora", "llama", """ "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "use_rslora": true """),
        ("bias_all", "llama_bias", """ "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "bias": "all" """),
        ("bias_lora_only", "gpt2", """ "r": 4, "lora_alpha": 8, "target_modules": ["c_attn"], "bias": "lora_only", "fan_in_fan_out": true """),
        ("modules_to_save", "llama", """ "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"] """),
        ("modules_to_save_norm", "llama", """ "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "modules_to_save": ["input_layernorm", "model.norm"] """),
        ("gpt2_c_attn", "gpt2", """ "r": 8, "lora_alpha": 16, "target_modules": ["c_attn"], "fan_in_fan_out": true """),
        ("pissa", "llama", """ "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": "pissa" """),
        ("pissa_rslora_gpt2", "gpt2", """ "r": 4, "lora_alpha": 4, "target_modules": ["c_attn"], "init_lora_weights": "pissa", "use_rslora": true, "fan_in_fan_out": true """),
        ("rank_pattern", "llama", """
            "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "up_proj"],
            "rank_pattern": {"q_proj": 2, "^model\\.layers\\.1\\.mlp\\.up_proj": 5},
            "alpha_pattern": {"v_proj": 3, "model.layers.0.self_attn.q_proj": 7}
            """),
    ];

    [Fact]
    public void What_Engine_saves_is_there_for_PEFT_to_load()
    {
        string? given = Environment.GetEnvironmentVariable(Destination);
        using var temporary = new TemporaryDirectory();
        string root = string.IsNullOrEmpty(given) ? temporary.Path : Path.GetFullPath(given);
        foreach ((string name, string model, string config) in s_created)
        {
            Export(Path.Combine(root, name), $"arch/{model}", merge: true, adapted =>
                adapted.Add("new", Fixture.Config(config) with { BaseModelNameOrPath = "base", TaskType = "CAUSAL_LM" }, seed: 7));
        }

        Export(Path.Combine(root, "combined_cat"), "arch/llama", merge: true, m => Combination(m, CombinationType.Cat, "wide"));
        Export(Path.Combine(root, "combined_linear"), "arch/llama", merge: true, m => Combination(m, CombinationType.Linear, "pandas"));
        foreach (string directory in Directory.GetDirectories(ParityRun.PathOf("lora")))
        {
            string name = Path.GetFileName(directory);
            using var json = Parity.Json("lora", name, "case.json");
            Export(Path.Combine(root, $"peft_{name}"), json.RootElement.GetProperty("base").GetString()!, merge: false, m =>
                AdapterFile.Load(m, name, Path.Combine(directory, "adapter_init")));
        }

        foreach (string model in (string[])["llama3", "gpt2"])
        {
            ExportFull(Path.Combine(root, $"full_{model}"), $"arch/{model}");
        }

        long bytes = Directory.EnumerateFiles(root, "*", SearchOption.AllDirectories).Sum(f => new FileInfo(f).Length);
        Assert.InRange(bytes, 1, 15_000_000);
    }

    private static LoraAdapter Combination(AdaptedModel model, CombinationType type, string second)
    {
        AdapterFile.Load(model, "sql", ParityRun.PathOf("multi", "sql"));
        AdapterFile.Load(model, second, ParityRun.PathOf("multi", second));
        return model.Combine("mix", [("sql", 0.7), (second, 0.3)], type);
    }

    private static void Export(string directory, string model, bool merge, Func<AdaptedModel, LoraAdapter> create)
    {
        string baseDirectory = Path.Combine(directory, "base");
        CopyBase(model, baseDirectory);
        using AdaptedModel adapted = ParityRun.Load(model);
        float[] alone = ParityRun.Logits(adapted, s_input);
        LoraAdapter adapter = create(adapted);
        ParityRun.Train(adapted, adapted.Train(adapter.Name), Steps, Rate);
        float[] logits = ParityRun.Logits(adapted, s_input);
        double tolerance = Tolerance * ParityRun.Scale(logits);
        Assert.True(ParityRun.MaxDifference(alone, logits) > 10 * tolerance, $"{directory}: the adapter hardly changes the logits");
        WriteInputAndLogits(directory, adapted, logits);

        string adapterDirectory = Path.Combine(directory, "adapter");
        AdapterFile.Save(adapter, adapterDirectory);
        using (var again = new AdaptedModel(DecoderModel.Load(baseDirectory, null, TestDevice.Current)))
        {
            AdapterFile.Load(again, "again", adapterDirectory);
            again.Activate("again");
            Assert.InRange(ParityRun.MaxDifference(logits, ParityRun.Logits(again, s_input)), 0, tolerance);
        }

        if (!merge)
        {
            return;
        }

        string mergedDirectory = Path.Combine(directory, "merged");
        adapted.Merge([(adapter.Name, 1)]);
        adapted.SaveMerged(mergedDirectory, ParityRun.PathOf(model));
        using var merged = new AdaptedModel(DecoderModel.Load(mergedDirectory, null, TestDevice.Current));
        Assert.InRange(ParityRun.MaxDifference(logits, ParityRun.Logits(merged, s_input)), 0, tolerance);
    }

    private static void ExportFull(string directory, string model)
    {
        using AdaptedModel adapted = ParityRun.Load(model);
        ParityRun.Train(adapted, adapted.TrainBase(), Steps, Rate);
        float[] logits = ParityRun.Logits(adapted, s_input);
        WriteInputAndLogits(directory, adapted, logits);
        string saved = Path.Combine(directory, "model");
        adapted.Base.Save(saved, ParityRun.PathOf(model));
        using var again = new AdaptedModel(DecoderModel.Load(saved, null, TestDevice.Current));
        Assert.Equal(logits, ParityRun.Logits(again, s_input));
    }

    private static void WriteInputAndLogits(string directory, AdaptedModel model, float[] logits)
    {
        int length = s_input.Ids.Length / s_input.Rows;
        AtomicFile.WriteAllText(
            Path.Combine(directory, "tokens.json"),
            $"[{string.Join(", ", s_input.Ids.Chunk(length).Select(row => $"[{string.Join(", ", row)}]"))}]\n");
        using Tensor tensor = Tensor.From(logits, [s_input.Rows, length, model.Base.Config.VocabularySize], Device.Cpu);
        SafetensorsWriter.Write(Path.Combine(directory, "logits.safetensors"), [SafetensorsBridge.Entry("logits", tensor)]);
    }

    private static void CopyBase(string model, string destination)
    {
        Directory.CreateDirectory(destination);
        foreach (string name in (string[])["config.json", "generation_config.json", "model.safetensors"])
        {
            File.Copy(ParityRun.PathOf(model, name), Path.Combine(destination, name), overwrite: true);
        }
    }
}
