using System.Text.Json;
using Engine.Autograd;

namespace Engine.Lora.Tests;

/// <summary>
/// Several adapters on one base against PEFT (tests/fixtures/parity/multi): switching, weighted combinations, and batches
/// whose rows use different adapters.
/// </summary>
public sealed class SeveralAdaptersParityTests : IDisposable
{
    // As in LoraParityTests.Tight: two changes of summation order, with a margin of two.
    private const double Tight = 7e-6;

    private static readonly string[] s_names = ["sql", "pandas", "wide"];
    private static readonly (int[] Ids, int Rows) s_input = ParityRun.Ids("eval_ids");
    private static readonly (int[] Ids, int Rows) s_mixedInput = ParityRun.Ids("mixed_ids");

    private readonly AdaptedModel _model = ParityRun.Load("arch/llama");
    private readonly Dictionary<string, float[]> _expected = ParityRun.Tensors(ParityRun.PathOf("multi", "expected.safetensors"));

    public SeveralAdaptersParityTests()
    {
        foreach (string name in s_names)
        {
            AdapterFile.Load(_model, name, ParityRun.PathOf("multi", name));
        }
    }

    public void Dispose() => _model.Dispose();

    [Fact]
    public void Switching_gives_each_adapters_logits_and_disabling_the_bases()
    {
        float[] alone = ParityRun.Logits(_model, s_input);
        foreach (string? name in (string?[])["sql", "pandas", "wide", "sql", null, "wide", null])
        {
            _model.Activate(name);
            AssertLogits(name ?? "disabled");
        }

        Assert.Equal(alone, ParityRun.Logits(_model, s_input));
        AssertLogits("base");
    }

    [Theory]
    [InlineData("mix_linear")]
    [InlineData("mix_negative")]
    [InlineData("mix_cat")]
    [InlineData("mix_cat_three")]
    public void A_combination_is_PEFTs(string name)
    {
        (CombinationType type, (string, double)[] parts) = Combination(name);
        LoraAdapter mix = _model.Combine(name, parts, type);
        _model.Activate(name);
        AssertLogits(name);

        // The tensors too. Each element of a linear combination sums up to three products: a few roundings of its scale.
        // PEFT's cat gives every layer the sum of all ranks and leaves zeros where an adapter has no part.
        Dictionary<string, float[]> theirs = ParityRun.Tensors(ParityRun.PathOf("multi", name, AdapterKeys.FileName));
        Assert.Equal(theirs.Count, mix.Parameters.Count());
        int full = type == CombinationType.Cat ? parts.Sum(p => _model.Get(p.Item1).Config.Rank) : mix.Config.Rank;
        foreach (LoraLayer layer in mix.Layers)
        {
            AssertTensor(theirs, layer.A, Pad(ParityRun.Floats(layer.A.Value), layer.Target.Rank, full, byRows: true));
            AssertTensor(theirs, layer.B, Pad(ParityRun.Floats(layer.B.Value), layer.Target.Rank, full, byRows: false));
        }

        using var directory = new TemporaryDirectory();
        AdapterFile.Save(mix, directory.Path);
        float[] logits = ParityRun.Logits(_model, s_input);
        AdapterFile.Load(_model, "again", directory.Path);
        _model.Activate("again");
        Assert.Equal(logits, ParityRun.Logits(_model, s_input));

        // PEFT's own file of the combination loads to the same.
        AdapterFile.Load(_model, "theirs", ParityRun.PathOf("multi", name));
        _model.Activate("theirs");
        AssertLogits(name);
    }

    [Theory]
    [InlineData("mix_cat")]
    [InlineData("mix_cat_three")]
    public void Merging_with_weights_is_the_concatenation(string name)
    {
        (_, (string, double)[] parts) = Combination(name);
        string hash = _model.BaseHash();
        _model.Merge(parts);
        AssertLogits(name);
        _model.Unmerge();
        Assert.Equal(hash, _model.BaseHash());
        AssertLogits("base");
    }

    [Theory]
    [InlineData("mixed")]
    [InlineData("mixed_three")]
    public void Rows_of_one_batch_use_their_own_adapters(string name)
    {
        using JsonDocument json = Parity.Json("multi", "case.json");
        string[] rows = [.. json.RootElement.GetProperty("rows").GetProperty(name).EnumerateArray().Select(r => r.GetString()!)];
        int[] indices = [.. rows.Select(r => Array.IndexOf(s_names, r))]; // __base__ is -1
        Assert.Contains(-1, indices);
        _model.ActivateMixed(s_names);
        float[] together = ParityRun.Logits(_model, s_mixedInput, indices);
        float[] expected = _expected[$"logits_{name}"];
        Assert.InRange(ParityRun.MaxDifference(expected, together), 0, Tight * ParityRun.Scale(expected));

        // And each row is what its adapter gives alone.
        int length = s_mixedInput.Ids.Length / rows.Length;
        int width = together.Length / rows.Length;
        for (int i = 0; i < rows.Length; i++)
        {
            _model.Activate(indices[i] < 0 ? null : rows[i]);
            float[] single = ParityRun.Logits(_model, (s_mixedInput.Ids[(i * length)..((i + 1) * length)], 1));
            Assert.InRange(ParityRun.MaxDifference(single, together[(i * width)..((i + 1) * width)]), 0, Tight * ParityRun.Scale(single));
        }
    }

    private static (CombinationType Type, (string Name, double Weight)[] Parts) Combination(string name)
    {
        using JsonDocument json = Parity.Json("multi", "case.json");
        JsonElement combination = json.RootElement.GetProperty("combinations").GetProperty(name);
        return (
            Enum.Parse<CombinationType>(combination.GetProperty("combination_type").GetString()!, ignoreCase: true),
            [.. combination.GetProperty("adapters").EnumerateArray().Zip(
                combination.GetProperty("weights").EnumerateArray(), (a, w) => (a.GetString()!, w.GetDouble()))]);
    }

    private static void AssertTensor(Dictionary<string, float[]> theirs, Variable variable, float[] ours)
    {
        float[] expected = theirs[AdapterKeys.Prefix + variable.Name];
        Assert.InRange(ParityRun.MaxDifference(expected, ours), 0, 8.0 / (1 << 24) * ParityRun.Scale(expected));
    }

    private static float[] Pad(float[] values, int rank, int full, bool byRows)
    {
        if (byRows)
        {
            return [.. values, .. new float[values.Length / rank * (full - rank)]];
        }

        return [.. values.Chunk(rank).SelectMany(row => row.Concat(new float[full - rank]))];
    }

    private void AssertLogits(string name)
    {
        float[] expected = _expected[$"logits_{name}"];
        double difference = ParityRun.MaxDifference(expected, ParityRun.Logits(_model, s_input));
        Assert.True(difference <= Tight * ParityRun.Scale(expected), $"{name}: {difference:e2}");
    }
}
