using Engine.Tensors;

namespace Engine.Transformer.Tokenization.Tests;

/// <summary>Every fault in a file is a data error that names the file, the field and the value.</summary>
[Trait("Device", "Cpu")]
public class BadTokenizerFileTests
{
    private static readonly string Good = SmallTokenizer.Json(["a", "b", "ab"], ["a b"]);

    public static TheoryData<string, string[]> Faults => new()
    {
        { """{"version":"1.0"}""", ["model", "missing"] },
        { Good.Replace("1.0", "2.0", StringComparison.Ordinal), ["version", "2.0"] },
        { "[]", ["top level", "object"] },
        { Good.Replace("\"BPE\"", "\"Unigram\"", StringComparison.Ordinal), ["model.type", "Unigram", "BPE"] },
        { Good.Replace("\"a b\"", "\"a c\"", StringComparison.Ordinal), ["model.merges[0]", "\"c\"", "model.vocab"] },
        { Good.Replace("\"a b\"", "\"b a\"", StringComparison.Ordinal), ["model.merges[0]", "\"ba\""] },
        { Good.Replace("\"a b\"", "\"a\"", StringComparison.Ordinal), ["model.merges[0]", "one space"] },
        { Good.Replace("\"a b\"", "[\"a\"]", StringComparison.Ordinal), ["model.merges[0]", "pair"] },
        { Good.Replace("\"b\":1", "\"b\":0", StringComparison.Ordinal), ["model.vocab", "the id 0", "\"a\"", "\"b\""] },
        { Good.Replace("\"b\":1", "\"a\":1", StringComparison.Ordinal), ["model.vocab", "\"a\"", "twice"] },
        { Good.Replace("\"b\":1", "\"b\":-1", StringComparison.Ordinal), ["model.vocab.b", "-1"] },
        { Good.Replace("\"b\":1", "\"b\":1.5", StringComparison.Ordinal), ["model.vocab.b", "1.5"] },
        { Good.Replace("\"b\":1", "\"b\":\"x\"", StringComparison.Ordinal), ["model.vocab.b", "whole number"] },
        { Good.Replace("\"type\":\"BPE\",", "\"type\":\"BPE\",\"dropout\":0.1,", StringComparison.Ordinal), ["model.dropout", "0.1"] },
        { Good.Replace("\"type\":\"BPE\",", "\"type\":\"BPE\",\"unk_token\":\"?\",", StringComparison.Ordinal), ["model.unk_token", "?"] },
        { Good.Replace("\"type\":\"BPE\",", "\"type\":\"BPE\",\"byte_fallback\":1,", StringComparison.Ordinal), ["model.byte_fallback", "true or false"] },
        { SmallTokenizer.Json(["a"], [], normalizer: """{"type":"BertNormalizer"}"""), ["normalizer.type", "BertNormalizer", "NFC"] },
        { SmallTokenizer.Json(["a"], [], normalizer: """{"type":"Sequence","normalizers":[{"type":"Nmt"}]}"""), ["normalizer.normalizers[0].type", "Nmt"] },
        { SmallTokenizer.Json(["a"], [], preTokenizer: """{"type":"UnicodeScripts"}"""), ["pre_tokenizer.type", "UnicodeScripts", "ByteLevel"] },
        { SmallTokenizer.Json(["a"], [], preTokenizer: """{"type":"Split","pattern":{"Regex":"(a"},"behavior":"Isolated"}"""), ["pre_tokenizer.pattern.Regex", "without ')'"] },
        { SmallTokenizer.Json(["a"], [], preTokenizer: """{"type":"Split","pattern":{"Regex":"\\p{Han}"},"behavior":"Isolated"}"""), ["pre_tokenizer.pattern.Regex", "{Han}", "supported"] },
        { SmallTokenizer.Json(["a"], [], preTokenizer: """{"type":"Split","pattern":{"String":"a"},"behavior":"Merged"}"""), ["pre_tokenizer.behavior", "Merged", "Contiguous"] },
        { SmallTokenizer.Json(["a"], [], preTokenizer: """{"type":"Metaspace","replacement":"ab"}"""), ["pre_tokenizer.replacement", "one character"] },
        { SmallTokenizer.Json(["a"], [], postProcessor: """{"type":"BertProcessing"}"""), ["post_processor.type", "BertProcessing", "TemplateProcessing"] },
        { SmallTokenizer.Json(["a"], [], postProcessor: """{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}}],"special_tokens":{}}"""), ["post_processor.single[0].SpecialToken.id", "<s>"] },
        { SmallTokenizer.Json(["a"], [], decoder: """{"type":"WordPiece"}"""), ["decoder.type", "WordPiece", "ByteFallback"] },
        { SmallTokenizer.Json(["a"], [], added: """[{"id":0,"content":"x"}]"""), ["added_tokens[0].id", "\"a\""] },
        { SmallTokenizer.Json(["a", "b"], [], added: """[{"id":0,"content":"b"}]"""), ["added_tokens[0].id", "model.vocab"] },
        { SmallTokenizer.Json(["a"], [], added: """[{"id":5,"content":"x"},{"id":5,"content":"y"}]"""), ["added_tokens[1].id", "\"x\""] },
        { SmallTokenizer.Json(["a"], [], added: """[{"content":"x"}]"""), ["added_tokens[0]", "\"id\" is missing"] },
        { SmallTokenizer.Json(["a"], [], added: """[{"id":5,"content":"\ud800"}]"""), ["added_tokens[0].content", "surrogate"] },
    };

    [Theory]
    [MemberData(nameof(Faults))]
    public void A_fault_is_named(string json, string[] parts)
    {
        using var small = new SmallTokenizer();
        EngineDataException error = Assert.Throws<EngineDataException>(() => small.Load(json));
        Assert.Contains(small.File, error.Message, StringComparison.Ordinal);
        Assert.All(parts, part => Assert.Contains(part, error.Message, StringComparison.Ordinal));
    }

    [Fact]
    public void Any_truncation_is_a_data_error()
    {
        using var small = new SmallTokenizer();
        for (int length = 0; length < Good.TrimEnd().Length; length++)
        {
            EngineDataException error = Assert.Throws<EngineDataException>(() => small.Load(Good[..length]));
            Assert.Contains(small.File, error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Random_damage_gives_a_tokenizer_or_a_data_error()
    {
        using var small = new SmallTokenizer();
        string whole = SmallTokenizer.Json(
            ["a", "b", "ab"], ["a b"], "\"unk_token\":\"a\",", """{"type":"Replace","pattern":{"Regex":"[a-c]+(?=x)"},"content":"y"}""",
            """{"type":"Metaspace","replacement":"_","prepend_scheme":"first","split":true}""", decoder: """{"type":"Fuse"}""",
            added: "[" + SmallTokenizer.Added(3, "<s>", "\"special\":true") + "]");
        var random = new Random(1);
        int loaded = 0;
        for (int round = 0; round < 1500; round++)
        {
            char[] text = whole.ToCharArray();
            for (int i = random.Next(1, 4); i > 0; i--)
            {
                text[random.Next(text.Length)] = whole[random.Next(whole.Length)];
            }

            try
            {
                small.Load(new string(text)).Encode("ab <s> cab");
                loaded++;
            }
            catch (EngineDataException)
            {
                // The documented outcome; anything else fails the test.
            }
        }

        Assert.InRange(loaded, 1, 1499);
    }

    [Fact]
    public void Missing_files_are_named()
    {
        using var small = new SmallTokenizer();
        Assert.Contains("no tokenizer.json", Assert.Throws<EngineDataException>(() => Tokenizer.Load(small.DirectoryPath)).Message, StringComparison.Ordinal);
        Assert.Contains("no such file", Assert.Throws<EngineDataException>(() => Tokenizer.Load(small.File)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Gaps_in_the_vocabulary_are_allowed()
    {
        using var small = new SmallTokenizer();
        Tokenizer t = small.Load(Good.Replace("\"ab\":2", "\"ab\":9", StringComparison.Ordinal));
        Assert.Equal((3, 10), (t.VocabularySize, t.IdLimit));
        Assert.Equal([9], t.Encode("ab"));
        Assert.Equal("ab", t.Decode([9, 5])); // an id without a token is passed over
    }
}
