using System.Text.Json;
using Engine.Autograd;
using Engine.Kernels;
using Engine.Tensors;

namespace Engine.Lora.Tests;

/// <summary>
/// Every adapter option against PEFT (tests/fixtures/parity/lora): logits of PEFT's adapter, twenty steps of training
/// from it, the adapter that results, what it merges to, and the files in both directions.
/// </summary>
public class LoraParityTests
{
    // Rule: logits within 2e-4 of the reference's scale.
    internal const double Rule = 2e-4;

    // An adapted logit is a sum over a few thousand products through two blocks; PEFT's own logits move by 2e-6 to 7e-6
    // (checks.merged_max_diff in the cases) when the same ΔW is added in another order, at a scale of 4 to 6. Two such
    // changes of order and a margin of two make 4 · 7e-6 / 4.
    internal const double Tight = 7e-6;

    private static readonly (int[] Ids, int Rows) s_input = ParityRun.Ids("eval_ids");

    public static TheoryData<string> Cases => [.. Names("lora")];

    public static TheoryData<string> Trained => [.. Names("lora").Where(n => Has(n, "train"))];

    public static TheoryData<string> Clipped => [.. Names("lora").Where(n => Has(n, "train_clipped"))];

    [Fact]
    public void Every_option_has_its_case()
    {
        string[] expected =
        [
            "all_linear", "base_with_bias", "bias_all", "bias_lora_only", "dora", "dora_rslora", "dora_with_bias", "dropout_config",
            "exclude_names", "exclude_regex", "gpt2_all_linear_dora", "gpt2_bias_all", "gpt2_c_attn", "gpt2_pissa", "layers_to_transform",
            "layers_to_transform_int", "modules_to_save_embed", "modules_to_save_head", "modules_to_save_norm", "names_and_suffixes",
            "pissa", "qv_default", "qv_gaussian", "qv_init_false", "qv_init_true", "qwen3_base", "rank_alpha_pattern", "regex", "rslora",
            "rslora_pattern", "tied_base",
        ];
        Assert.Equal(expected, Names("lora"));
        Assert.Equal(expected.Length - 1, Names("lora").Count(n => Has(n, "train"))); // dropout's masks are PyTorch's own
        Assert.Equal(["all_linear", "dora", "gpt2_c_attn", "qv_default"], Names("lora").Where(n => Has(n, "train_clipped")));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void The_adapter_gives_PEFTs_logits_and_is_saved_as_PEFT_saves_it(string name)
    {
        using JsonDocument json = Parity.Json("lora", name, "case.json");
        using AdaptedModel model = Start(json, name, "adapter_init", out LoraAdapter adapter);
        Assert.Equal(json.RootElement.GetProperty("trainable_parameters").GetInt64(), adapter.ParameterCount);
        AssertLogits(name, "logits_init", model);

        using var directory = new TemporaryDirectory();
        string original = ParityRun.PathOf("lora", name, "adapter_init");
        string first = directory.File("first");
        AdapterFile.Save(adapter, first);
        Assert.Equal(
            AsPlain(LoraConfig.Load(Path.Combine(original, LoraConfig.FileName))).ToJson(),
            File.ReadAllText(Path.Combine(first, LoraConfig.FileName)));
        Assert.Equal(ParityRun.Layout(Path.Combine(original, AdapterKeys.FileName)), ParityRun.Layout(Path.Combine(first, AdapterKeys.FileName)));
        AssertSameBits(ParityRun.Tensors(Path.Combine(original, AdapterKeys.FileName)), first);

        LoraAdapter again = AdapterFile.Load(model, "again", first);
        string second = directory.File("second");
        AdapterFile.Save(again, second);
        Assert.Equal(File.ReadAllBytes(Path.Combine(first, AdapterKeys.FileName)), File.ReadAllBytes(Path.Combine(second, AdapterKeys.FileName)));
        float[] logits = ParityRun.Logits(model, s_input);
        model.Activate("again");
        Assert.Equal(logits, ParityRun.Logits(model, s_input));
    }

    [Theory]
    [MemberData(nameof(Trained))]
    public void Twenty_steps_follow_PEFT(string name)
    {
        using JsonDocument json = Parity.Json("lora", name, "case.json");
        using AdaptedModel model = Start(json, name, "adapter_init", out LoraAdapter adapter);
        string before = model.BaseHash();
        TrainingRecord record = TrainingRecord.Read(json.RootElement);
        Assert.Equal(20, record.Loss.Length);
        record.Follow(model, model.Train(adapter.Name));
        AssertLogits(name, "logits_final", model);
        Assert.Equal(before, model.BaseHash());
        AssertFinal(name, model, adapter, record);
    }

    [Theory]
    [MemberData(nameof(Clipped))]
    public void Twenty_clipped_steps_follow_PEFT(string name)
    {
        using JsonDocument json = Parity.Json("lora", name, "case.json");
        using AdaptedModel model = Start(json, name, "adapter_init", out LoraAdapter adapter);
        TrainingRecord record = TrainingRecord.Read(json.RootElement, "train_clipped");
        Assert.Equal(0.5, record.Clip);
        Assert.Contains(record.GradientNorm, n => n > record.Clip);
        record.Follow(model, model.Train(adapter.Name));
    }

    [Theory]
    [MemberData(nameof(Trained))]
    public void The_merged_weights_are_PEFTs(string name)
    {
        using JsonDocument json = Parity.Json("lora", name, "case.json");
        using AdaptedModel model = Start(json, name, "adapter_final", out LoraAdapter adapter);
        using var directory = new TemporaryDirectory();
        float[] unmerged = ParityRun.Logits(model, s_input);
        AssertLogits(name, "logits_final", model);
        model.Merge([(adapter.Name, 1)]);
        float[] merged = ParityRun.Logits(model, s_input);
        Assert.InRange(ParityRun.MaxDifference(unmerged, merged), 0, Tight * ParityRun.Scale(unmerged));
        model.SaveMerged(directory.Path, source: null);
        Dictionary<string, float[]> ours = ParityRun.Tensors(directory.File("model.safetensors"));
        Dictionary<string, float[]> plain = ParityRun.Tensors(ParityRun.PathOf(Base(json), "model.safetensors"));
        Dictionary<string, float[]> expected = ParityRun.Tensors(ParityRun.PathOf("lora", name, "merged.safetensors"));
        Assert.NotEmpty(expected);
        foreach ((string key, float[] values) in ours)
        {
            if (!expected.TryGetValue(key, out float[]? wanted))
            {
                Assert.Equal(plain[key], values); // not changed by PEFT: the base's bits
                continue;
            }

            // Each element is one sum of at most 16 terms rounded to f32, here and there: with u = 2⁻²⁴ the sum of r + 1
            // terms is off by (r + 2)·u·Σ|terms|, and Σ|terms| is at most a few times the largest element. DoRA's ratio
            // m/‖V‖ adds the norm's own rounding over up to 128 squares, √128·u typically; together below 64·u a side.
            double tolerance = 2 * 64.0 / (1 << 24) * ParityRun.Scale(wanted);
            double difference = ParityRun.MaxDifference(wanted, values);
            Assert.True(difference <= tolerance, $"{key}: {difference:e2} > {tolerance:e2}");
        }

        Assert.Equal(plain.Keys.Order(), ours.Keys.Order());
        Assert.Subset(ours.Keys.ToHashSet(), expected.Keys.ToHashSet());
        model.Unmerge();
        model.Activate(adapter.Name);
        Assert.Equal(unmerged, ParityRun.Logits(model, s_input));
    }

    internal static string Base(JsonDocument json) => json.RootElement.GetProperty("base").GetString()!;

    /// <summary>
    /// The case's base with PEFT's adapter on it, active. PiSSA's cases start from the residual that PEFT computed and take
    /// the adapter as a plain one: Engine would compute the residual anew (PissaParityTests), not to the last bits.
    /// </summary>
    internal static AdaptedModel Start(
        JsonDocument json, string name, string state, out LoraAdapter adapter, DType? dtype = null, Device? device = null)
    {
        AdaptedModel model = ParityRun.Load(Base(json), dtype, device);
        string directory = ParityRun.PathOf("lora", name, state);
        LoraConfig config = LoraConfig.Load(Path.Combine(directory, LoraConfig.FileName));
        if (config.Init.Kind != LoraInitKind.Pissa)
        {
            adapter = AdapterFile.Load(model, name, directory);
            model.Activate(name);
            return model;
        }

        foreach ((string key, float[] values) in ParityRun.Tensors(ParityRun.PathOf("lora", name, "base_residual.safetensors")))
        {
            using Tensor residual = Tensor.From(values, model.Base.Parameters[key].Value.Shape, model.Base.Device);
            Cast.Run(residual, model.Base.Parameters[key].Value);
        }

        using var plain = new TemporaryDirectory();
        AsPlain(config).Save(plain.File(LoraConfig.FileName));
        File.Copy(Path.Combine(directory, AdapterKeys.FileName), plain.File(AdapterKeys.FileName));
        adapter = AdapterFile.Load(model, name, plain.Path);
        model.Activate(name);
        return model;
    }

    private static LoraConfig AsPlain(LoraConfig config) => config.Init.Kind == LoraInitKind.Pissa ? config with { Init = default } : config;

    internal static void AssertLogits(string name, string field, AdaptedModel model, double tight = Tight)
    {
        float[] expected = ParityRun.Tensors(ParityRun.PathOf("lora", name, "expected.safetensors"))[field];
        double difference = ParityRun.MaxDifference(expected, ParityRun.Logits(model, s_input));
        double scale = ParityRun.Scale(expected);
        Assert.True(difference <= Rule * scale, $"{name} {field}: {difference:e2} of {scale:f1}: beyond the rule");
        Assert.True(difference <= tight * scale, $"{name} {field}: {difference:e2} > {tight * scale:e2}");
    }

    private static void AssertFinal(string name, AdaptedModel model, LoraAdapter adapter, TrainingRecord record)
    {
        Dictionary<string, float[]> expected = ParityRun.Tensors(ParityRun.PathOf("lora", name, "adapter_final", AdapterKeys.FileName));
        HashSet<string> targeted = [.. adapter.Layers.Select(l => l.Path)];
        Assert.Equal(expected.Count, adapter.Parameters.Count());
        foreach (Variable parameter in adapter.Parameters)
        {
            string path = parameter.Name![..parameter.Name!.LastIndexOf('.')];
            bool ownBias = parameter.Name.EndsWith(".bias", StringComparison.Ordinal) && targeted.Contains(path);
            string key = AdapterKeys.Prefix + (ownBias ? $"{path}.base_layer.bias" : parameter.Name);
            double difference = ParityRun.MaxDifference(expected[key], ParityRun.Floats(parameter.Value));

            // As for losses: 3 × the distance between float32's and float64's final weights, at least 3 × 1e-6 because
            // AdamW divides by √v: where a gradient is small, its rounding is large beside it and the step with it.
            double tolerance = 3 * Math.Max(1e-6, record.WeightDrift);
            Assert.True(difference <= tolerance, $"{key}: {difference:e2} > {tolerance:e2}");
        }

        Assert.Equal(DType.F32, model.AdapterDType);
    }

    private static void AssertSameBits(Dictionary<string, float[]> expected, string directory)
    {
        foreach ((string key, float[] values) in ParityRun.Tensors(Path.Combine(directory, AdapterKeys.FileName)))
        {
            Assert.Equal(expected[key].Select(BitConverter.SingleToInt32Bits), values.Select(BitConverter.SingleToInt32Bits));
        }
    }

    private static string[] Names(string group) =>
        [.. Directory.GetDirectories(ParityRun.PathOf(group)).Select(d => Path.GetFileName(d)!).Order(StringComparer.Ordinal)];

    private static bool Has(string name, string field)
    {
        using JsonDocument json = Parity.Json("lora", name, "case.json");
        return json.RootElement.TryGetProperty(field, out _);
    }
}
