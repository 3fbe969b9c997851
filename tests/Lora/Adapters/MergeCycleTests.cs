using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora.Tests;

/// <summary>Merging and unmerging: the base's exact bits come back, and merged logits agree with unmerged ones.</summary>
public class MergeCycleTests
{
    private const string Llama = """ "r": 4, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": false """;
    private const string LlamaTwo = """ "r": 3, "lora_alpha": 4, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": false """;
    private const string LlamaDora = """ "r": 2, "lora_alpha": 4, "target_modules": ["v_proj", "up_proj"], "use_dora": true, "init_lora_weights": false """;
    private const string LlamaCopies = """ "r": 2, "lora_alpha": 4, "target_modules": ["v_proj"], "modules_to_save": ["norm"], "init_lora_weights": false """;
    private const string Gpt2 = """ "r": 4, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": false """;
    private const string Gpt2Two = """ "r": 3, "lora_alpha": 4, "target_modules": ["c_attn"], "init_lora_weights": false """;
    private const string Gpt2Dora = """ "r": 2, "lora_alpha": 4, "target_modules": ["c_attn", "mlp.c_proj"], "use_dora": true, "init_lora_weights": false """;
    private const string Gpt2Copies = """ "r": 2, "lora_alpha": 4, "target_modules": ["c_attn"], "bias": "all", "init_lora_weights": false """;

    private static readonly (int[] Ids, int Rows) s_input = ParityRun.Ids("eval_ids");

    public static TheoryData<string, DType> Bases
    {
        get
        {
            var data = new TheoryData<string, DType>();
            foreach (string model in (string[])["llama", "llama3", "gpt2"])
            {
                data.Add(model, DType.F32);
                data.Add(model, DType.BF16);
                data.Add(model, DType.F16);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Bases))]
    public void Fifty_random_cycles_return_the_exact_bits(string name, DType dtype)
    {
        using AdaptedModel model = WithAdapters(name, dtype);
        string[] plain = ["one", "two", "three"];
        string hash = model.BaseHash();
        float[] alone = ParityRun.Logits(model, s_input);
        var random = new Random(20260101);
        for (int cycle = 0; cycle < 50; cycle++)
        {
            (string, double)[] parts = (cycle % 5) switch
            {
                3 => [("dora", 1)],
                4 => [("copies", 1)],
                _ => [.. plain.Where(_ => random.Next(3) > 0).DefaultIfEmpty("one").Select(p => (p, Weight(random)))],
            };
            MergeSummary summary = model.Merge(parts);
            Assert.True(model.IsMerged);
            Assert.True(summary.Parameters > 0);
            Assert.NotEqual(hash, model.BaseHash());
            model.Unmerge();
            Assert.False(model.IsMerged);
            Assert.Equal(hash, model.BaseHash());
        }

        Assert.Equal(alone, ParityRun.Logits(model, s_input));
    }

    [Theory]
    [MemberData(nameof(Bases))]
    public void Merged_logits_agree_with_unmerged_ones(string name, DType dtype)
    {
        // The reference: the same weights, rounded to the dtype, with everything else in f32.
        using AdaptedModel model = WithAdapters(name, dtype);
        using var directory = new TemporaryDirectory();
        model.Base.Save(directory.Path, source: null, DType.F32);
        using var exact = new AdaptedModel(DecoderModel.Load(directory.Path, DType.F32, TestDevice.Current));
        AddAdapters(exact, name);
        foreach (string adapter in (string[])["one", "two", "dora", "copies"])
        {
            exact.Activate(adapter);
            float[] reference = ParityRun.Logits(exact, s_input);
            model.Activate(adapter);
            float[] unmerged = ParityRun.Logits(model, s_input);
            model.Merge([(adapter, 1)]);
            float[] merged = ParityRun.Logits(model, s_input);
            model.Unmerge();

            // Unmerged, a low-precision model rounds each linear's output once, u·|y|, and merged besides each weight, which
            // moves that output by at most u·Σ|w·x|, commonly √in times less; so a merged model may be a few times as far
            // from the reference as the unmerged one, and in f32 both are within the tight bound of LoraParityTests.
            double scale = ParityRun.Scale(reference);
            double error = Math.Max(ParityRun.MaxDifference(reference, unmerged), dtype == DType.F32 ? 7e-6 * scale : 0);
            Assert.True(error < 0.1 * scale, $"{adapter}: unmerged {error:e2} of {scale:f1}");
            Assert.InRange(ParityRun.MaxDifference(reference, merged), 0, 4 * error);
        }
    }

    [Fact]
    public void A_merge_that_overflows_is_undone_too()
    {
        using AdaptedModel model = WithAdapters("llama", DType.F16);
        string hash = model.BaseHash();
        model.Merge([("one", 1e7), ("two", -1e-7)]);
        Assert.Contains(model.Base.Parameters.Values, p => ParityRun.Floats(p.Value).Any(float.IsInfinity));
        model.Unmerge();
        Assert.Equal(hash, model.BaseHash());
    }

    [Fact]
    public void A_merge_of_weight_zero_changes_nothing()
    {
        using AdaptedModel model = WithAdapters("gpt2", DType.BF16);
        string hash = model.BaseHash();
        float[] alone = ParityRun.Logits(model, s_input);
        MergeSummary summary = model.Merge([("one", 0)]);
        Assert.Equal(0, summary.CorrectedElements);
        Assert.Equal(hash, model.BaseHash());
        Assert.Equal(alone, ParityRun.Logits(model, s_input));
        model.Unmerge();
        Assert.Equal(hash, model.BaseHash());
    }

    [Fact]
    public void A_saved_merge_answers_without_the_adapter_and_keeps_the_dtype()
    {
        foreach (DType dtype in (DType[])[DType.F32, DType.BF16])
        {
            using AdaptedModel model = WithAdapters("llama", dtype);
            using var directory = new TemporaryDirectory();
            model.Merge([("copies", 1)]);
            float[] merged = ParityRun.Logits(model, s_input);
            model.SaveMerged(directory.Path, ParityRun.PathOf("arch", "llama"));
            using DecoderModel loaded = DecoderModel.Load(directory.Path, null, TestDevice.Current);
            Assert.Equal(dtype, loaded.DType);
            using var plain = new AdaptedModel(loaded);
            Assert.Equal(merged, ParityRun.Logits(plain, s_input));
        }
    }

    private static AdaptedModel WithAdapters(string name, DType dtype)
    {
        AdaptedModel model = ParityRun.Load($"arch/{name}", dtype);
        AddAdapters(model, name);
        return model;
    }

    private static void AddAdapters(AdaptedModel model, string name)
    {
        bool isGpt2 = name == "gpt2";
        model.Add("one", Fixture.Config(isGpt2 ? Gpt2 : Llama), seed: 1);
        model.Add("two", Fixture.Config(isGpt2 ? Gpt2Two : LlamaTwo), seed: 2);
        model.Add("three", Fixture.Config(isGpt2 ? Gpt2Two : LlamaTwo), seed: 3);
        model.Add("dora", Fixture.Config(isGpt2 ? Gpt2Dora : LlamaDora), seed: 4);
        LoraAdapter copies = model.Add("copies", Fixture.Config(isGpt2 ? Gpt2Copies : LlamaCopies), seed: 5);
        foreach (Autograd.Variable copy in copies.Copies.Values)
        {
            using Tensor other = copy.Value.Clone();
            Kernels.Elementwise.Scale(other, 1.25f, copy.Value); // exact in every dtype but where it rounds; other than the base's
        }
    }

    // Between ±2, and now and then very small or large: the correction must hold whatever the sum loses.
    private static double Weight(Random random)
    {
        double weight = (4 * random.NextDouble()) - 2;
        return random.Next(6) switch { 0 => weight * 1e-4, 1 => weight * 1e3, _ => weight };
    }
}
