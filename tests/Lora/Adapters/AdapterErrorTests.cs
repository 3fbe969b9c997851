using Engine.Tensors;

namespace Engine.Lora.Tests;

/// <summary>What a model with adapters refuses: the message says what and why, and nothing has changed.</summary>
public sealed class AdapterErrorTests : IDisposable
{
    private const string Plain = """ "r": 4, "target_modules": ["q_proj"], "init_lora_weights": false """;
    private const string Other = """ "r": 2, "target_modules": ["q_proj"], "init_lora_weights": false """;
    private const string Dora = """ "r": 4, "target_modules": ["q_proj"], "use_dora": true """;
    private const string Copies = """ "r": 4, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"] """;
    private const string Pissa = """ "r": 4, "target_modules": ["q_proj"], "init_lora_weights": "pissa" """;

    private static readonly (int[] Ids, int Rows) s_input = ParityRun.Ids("eval_ids");

    private readonly AdaptedModel _model = ParityRun.Load("arch/llama");

    public AdapterErrorTests()
    {
        _model.Add("plain", Fixture.Config(Plain), seed: 1);
        _model.Add("other", Fixture.Config(Other), seed: 2);
        _model.Add("dora", Fixture.Config(Dora), seed: 3);
        _model.Add("copies", Fixture.Config(Copies), seed: 4);
        _model.Add("pissa", Fixture.Config(Pissa), seed: 5);
    }

    public void Dispose() => _model.Dispose();

    [Fact]
    public void Names_that_are_not_there_are_listed_with_those_that_are()
    {
        Action<AdaptedModel>[] uses =
        [
            m => m.Activate("sql"), m => m.Remove("sql"), m => m.Merge([("sql", 1)]), m => m.ActivateMixed(["plain", "sql"]),
            m => m.Combine("mix", [("plain", 1), ("sql", 1)], CombinationType.Cat), m => m.Train("sql"), m => m.Get("sql"),
        ];
        foreach (Action<AdaptedModel> use in uses)
        {
            AssertRefused(() => use(_model), "\"sql\"", "plain", "copies");
        }

        using AdaptedModel empty = ParityRun.Load("arch/llama");
        Assert.Contains("there are none", Assert.Throws<EngineDataException>(() => empty.Activate("sql")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_name_is_taken_once()
    {
        AssertRefused(() => _model.Add("plain", Fixture.Config(Other), seed: 9), "\"plain\"");
        AssertRefused(() => _model.Combine("plain", [("other", 1)], CombinationType.Cat), "\"plain\"");
        Assert.Equal(4, _model.Get("plain").Config.Rank);
    }

    [Fact]
    public void A_merged_base_takes_no_changes()
    {
        string hash = _model.BaseHash();
        _model.Merge([("plain", 1)]);
        string merged = _model.BaseHash();
        Action<AdaptedModel>[] uses =
        [
            m => m.Activate("plain"), m => m.Activate(null), m => m.ActivateMixed(["plain"]), m => m.Remove("plain"), m => m.Train("plain"),
            m => m.TrainBase(), m => m.Add("new", Fixture.Config(Plain), seed: 1), m => m.Merge([("other", 1)]),
            m => m.Combine("mix", [("plain", 1)], CombinationType.Cat),
            m => AdapterFile.Load(m, "new", ParityRun.PathOf("multi", "sql")),
        ];
        foreach (Action<AdaptedModel> use in uses)
        {
            Assert.Contains("merged", Assert.Throws<EngineDataException>(() => use(_model)).Message, StringComparison.Ordinal);
            Assert.Equal(merged, _model.BaseHash());
            Assert.Equal(5, _model.Adapters.Count);
        }

        _model.Unmerge();
        Assert.Equal(hash, _model.BaseHash());
        Assert.Throws<InvalidOperationException>(_model.Unmerge);
    }

    [Fact]
    public void Merges_that_have_no_meaning_are_refused()
    {
        AssertRefused(() => _model.Merge([]), "no adapters");
        AssertRefused(() => _model.Merge([("dora", 0.5)]), "\"dora\"", "DoRA", "weight 1");
        AssertRefused(() => _model.Merge([("plain", 1), ("dora", 1)]), "\"dora\"", "alone");
        AssertRefused(() => _model.Merge([("copies", 2)]), "\"copies\"", "weight 1");
        AssertRefused(() => _model.Merge([("pissa", 0.5)]), "\"pissa\"", "weight 1");
        AssertRefused(() => _model.Merge([("plain", double.NaN)]), "\"plain\"", "NaN");
        AssertRefused(() => _model.Merge([("plain", double.PositiveInfinity)]), "\"plain\"", "finite");
        Assert.False(_model.IsMerged);
    }

    [Fact]
    public void Combinations_that_have_no_meaning_are_refused()
    {
        AssertRefused(() => _model.Combine("mix", [], CombinationType.Cat), "no adapters");
        AssertRefused(() => _model.Combine("mix", [("plain", 1), ("other", 1)], CombinationType.Linear), "4 (plain)", "2 (other)", "cat");
        AssertRefused(() => _model.Combine("mix", [("dora", 1)], CombinationType.Cat), "\"dora\"", "DoRA");
        AssertRefused(() => _model.Combine("mix", [("plain", 1), ("copies", 1)], CombinationType.Cat), "\"copies\"", "modules_to_save");
        AssertRefused(() => _model.Combine("mix", [("pissa", 1)], CombinationType.Cat), "\"pissa\"", "PiSSA");
        AssertRefused(() => _model.Combine("mix", [("plain", double.NaN)], CombinationType.Linear), "\"plain\"", "NaN");
    }

    [Fact]
    public void Mixed_batches_take_plain_adapters_only()
    {
        AssertRefused(() => _model.ActivateMixed(["plain", "dora"]), "\"dora\"", "DoRA");
        AssertRefused(() => _model.ActivateMixed(["copies"]), "\"copies\"", "modules_to_save");
        AssertRefused(() => _model.ActivateMixed(["pissa"]), "\"pissa\"", "PiSSA");
    }

    [Fact]
    public void Row_adapters_fit_the_batch()
    {
        _model.ActivateMixed(["plain", "other"]);
        Assert.Equal(2, s_input.Rows);
        foreach (int[] rows in (int[][])[[0], [0, 1, 0], [0, 2], [2, -1]])
        {
            Assert.Contains("row adapters", Assert.Throws<ArgumentException>(() => ParityRun.Logits(_model, s_input, rows)).Message, StringComparison.Ordinal);
        }

        ParityRun.Logits(_model, s_input, [1, -1]);
    }

    [Fact]
    public void A_tied_head_cannot_be_merged_apart_from_its_embedding()
    {
        using AdaptedModel tied = ParityRun.Load("arch/llama3");
        tied.Add("head", Fixture.Config(""" "r": 4, "target_modules": ["lm_head"], "init_lora_weights": false """), seed: 1);
        string hash = tied.BaseHash();
        string message = Assert.Throws<EngineDataException>(() => tied.Merge([("head", 1)])).Message;
        Assert.Contains("lm_head", message, StringComparison.Ordinal);
        Assert.Contains("tie_word_embeddings", message, StringComparison.Ordinal);
        Assert.Equal(hash, tied.BaseHash());
        Assert.False(tied.IsMerged);

        tied.Add("copy", Fixture.Config(Copies), seed: 1);
        tied.Merge([("copy", 1)]);
        using var directory = new TemporaryDirectory();
        message = Assert.Throws<EngineDataException>(() => tied.SaveMerged(directory.File("merged"), source: null)).Message;
        Assert.Contains("lm_head.weight", message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(directory.File("merged")));
    }

    private void AssertRefused(Action use, params string[] says)
    {
        string hash = _model.BaseHash();
        _model.Activate("plain");
        float[] logits = ParityRun.Logits(_model, s_input);
        string message = Assert.Throws<EngineDataException>(use).Message;
        Assert.All(says, s => Assert.Contains(s, message, StringComparison.Ordinal));
        Assert.Equal("plain", _model.Active?.Name);
        Assert.Equal(logits, ParityRun.Logits(_model, s_input));
        Assert.Equal(hash, _model.BaseHash());
        Assert.Equal(["copies", "dora", "other", "pissa", "plain"], _model.Adapters.Keys.Order());
    }
}
