using System.Text.Json;
using Engine.Tensors;

namespace Engine.Transformer.Tokenization.Tests;

/// <summary>The trainer against hand-derived merges and against the reference library's own training.</summary>
[Trait("Device", "Cpu")]
public sealed class BpeTrainerTests : IDisposable
{
    private static readonly string[] Special = ["<|begin|>", "<|end|>", "<|pad|>"];

    private readonly string _directory = Directory.CreateTempSubdirectory("engine-trainer-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void The_most_frequent_pair_is_merged_first_and_ties_go_to_the_smaller_ids()
    {
        // Words: "ab" 3 times, "cb" 3 times, "abd" 2 times. Pairs: (a,b) 5, (c,b) 3, (b,d) 2, then (ab,d) 2.
        var trainer = new BpeTrainer(256 + 3, @"[^;]+|;");
        trainer.Add("ab;ab;ab;cb;cb;cb;abd;abd");
        TrainedBpe trained = trainer.Train();
        Assert.Equal([("a", "b"), ("c", "b"), ("ab", "d")], trained.Merges);
        Assert.Equal(["ab", "cb", "abd"], trained.Tokens.Skip(256));

        // (a,b), (c,d) and (e,f) all occur twice: the smallest left id is first.
        trainer = new BpeTrainer(256 + 2, @"[^;]+|;");
        trainer.Add("ef;cd;ab;ef;cd;ab");
        Assert.Equal([("a", "b"), ("c", "d")], trainer.Train().Merges);
    }

    [Fact]
    public void Overlapping_pairs_merge_from_the_left()
    {
        var trainer = new BpeTrainer(256 + 8, @"[^;]+|;");
        trainer.Add("aaaaa;aaaaa");
        // aa|aa|a: (aa,a) and (aa,aa) occur equally often and a has the smaller id.
        Assert.Equal([("a", "a"), ("aa", "a"), ("aa", "aaa")], trainer.Train().Merges);
    }

    [Theory]
    [InlineData("gpt2", BpeTrainer.Gpt2Pattern, 600)]
    [InlineData("llama3", BpeTrainer.Llama3Pattern, 640)]
    public void Training_equals_the_reference(string name, string pattern, int size)
    {
        TrainedBpe trained = Train(new BpeTrainer(size, pattern));
        using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(TokenizerFixtures.PathOf(name, "tokenizer.json")));
        JsonElement model = document.RootElement.GetProperty("model");
        string[] merges =
        [
            .. model.GetProperty("merges").EnumerateArray().Select(m =>
                m.ValueKind == JsonValueKind.String ? m.GetString()! : $"{m[0].GetString()} {m[1].GetString()}"),
        ];
        Assert.Equal(size - 256, merges.Length);
        Assert.Equal(merges, trained.Merges.Select(m => $"{m.Left} {m.Right}"));
        Assert.Equal(size, trained.Tokens.Count);
        for (int id = 0; id < trained.Tokens.Count; id++)
        {
            Assert.Equal(id, model.GetProperty("vocab").GetProperty(trained.Tokens[id]).GetInt32());
        }
    }

    [Fact]
    public void The_written_file_loads_and_is_the_committed_one()
    {
        // tests/fixtures/tokenizers/engine-trained was written by this very call; make.py lets the reference load it.
        TokenizerJsonWriter.Write(_directory, Train(new BpeTrainer(500, specialTokens: Special)), Special[0], Special[1], Special[2]);
        foreach (string file in new[] { "tokenizer.json", "tokenizer_config.json" })
        {
            Assert.Equal(
                File.ReadAllText(TokenizerFixtures.PathOf("engine-trained", file)), File.ReadAllText(Path.Combine(_directory, file)));
        }

        Tokenizer tokenizer = Tokenizer.Load(_directory);
        Assert.Equal(500, tokenizer.VocabularySize);
        Assert.Equal((0, 1, 2), (
            tokenizer.SpecialTokens.BeginningOfSequence, tokenizer.SpecialTokens.EndOfSequence, tokenizer.SpecialTokens.Padding));
        int[] ids = tokenizer.Encode("SELECT year FROM results<|end|>");
        Assert.Equal((0, 1), (ids[0], ids[^1]));
        Assert.Equal("SELECT year FROM results", tokenizer.Decode(ids));
        Assert.True(ids.Length < 12, $"{ids.Length} tokens for words that were trained on");
    }

    [Fact]
    public void Too_little_text_gives_a_smaller_vocabulary()
    {
        var trainer = new BpeTrainer(1000);
        trainer.Add("abc");
        TrainedBpe trained = trainer.Train();
        Assert.Equal(256, trained.Tokens.Count); // nothing occurs twice
        Assert.Empty(trained.Merges);
    }

    [Fact]
    public void Wrong_arguments_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new BpeTrainer(257, specialTokens: Special));
        Assert.Throws<ArgumentException>(() => new BpeTrainer(300, "(unclosed"));
        Assert.Throws<ArgumentException>(() => new BpeTrainer(300, specialTokens: ["<a>", "<a>"]));
        TrainedBpe trained = new BpeTrainer(300, specialTokens: Special).Train();
        Assert.Throws<ArgumentException>(() => TokenizerJsonWriter.Write(_directory, trained, beginToken: "<s>"));
        string file = Path.Combine(_directory, "file");
        File.WriteAllText(file, "");
        Assert.Throws<EngineDataException>(() => TokenizerJsonWriter.Write(Path.Combine(file, "below"), trained));
    }

    private static TrainedBpe Train(BpeTrainer trainer)
    {
        foreach (string line in File.ReadLines(TokenizerFixtures.PathOf("training.jsonl")))
        {
            using JsonDocument document = JsonDocument.Parse(line);
            trainer.Add(document.RootElement.GetString()!);
        }

        return trainer.Train();
    }
}
