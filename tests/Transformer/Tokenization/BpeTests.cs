namespace Engine.Transformer.Tokenization.Tests;

/// <summary>The model's rules on vocabularies whose results follow by hand.</summary>
[Trait("Device", "Cpu")]
public class BpeTests
{
    [Fact]
    public void Merges_apply_by_rank_and_leftmost_first()
    {
        using var small = new SmallTokenizer();
        // ids: a0 b1 c2 ab3 bc4 abc5 aa6
        Tokenizer t = small.Load(SmallTokenizer.Json(
            ["a", "b", "c", "ab", "bc", "abc", "aa"], ["b c", "a b", "a bc", "a a"]));
        Assert.Equal([5], t.Encode("abc")); // bc first, then a bc
        Assert.Equal([3, 3], t.Encode("abab"));
        Assert.Equal([6, 0], t.Encode("aaa")); // equal rank: the left pair
        Assert.Equal([6, 5], t.Encode("aaabc"));
        Assert.Equal([], t.Encode(""));
        Assert.Equal("aa", t.IdToToken(6));
        Assert.Equal(6, t.TokenToId("aa"));
        Assert.Null(t.IdToToken(7));
        Assert.Null(t.TokenToId("x"));
        Assert.Equal(7, t.VocabularySize);
    }

    [Fact]
    public void Without_unknown_token_unknown_characters_vanish()
    {
        using var small = new SmallTokenizer();
        Tokenizer t = small.Load(SmallTokenizer.Json(["a", "b", "ab"], ["a b"]));
        Assert.Equal([2], t.Encode("axb")); // x leaves nothing behind, so a and b meet
    }

    [Theory]
    [InlineData(false, new[] { 1, 0, 0, 1 })]
    [InlineData(true, new[] { 1, 0, 1 })]
    public void Unknown_characters_are_fused_only_when_asked(bool fuse, int[] expected)
    {
        using var small = new SmallTokenizer();
        Tokenizer t = small.Load(SmallTokenizer.Json(
            ["<unk>", "a"], [], $"\"unk_token\":\"<unk>\",\"fuse_unk\":{(fuse ? "true" : "false")},"));
        Assert.Equal(expected, t.Encode("axya"));
    }

    [Fact]
    public void Byte_fallback_gives_every_byte_its_token_and_needs_all_of_them()
    {
        using var small = new SmallTokenizer();
        // é is C3 A9; ü is C3 BC, whose second byte has no token here.
        Tokenizer t = small.Load(SmallTokenizer.Json(
            ["<unk>", "a", "<0xC3>", "<0xA9>"], [], "\"unk_token\":\"<unk>\",\"byte_fallback\":true,",
            decoder: """{"type":"ByteFallback"}"""));
        Assert.Equal([1, 2, 3, 1], t.Encode("a\u00e9a"));
        Assert.Equal([1, 0, 1], t.Encode("a\u00fca"));
        // A pending unknown is written only when a known character follows, so bytes overtake it.
        Assert.Equal([2, 3, 0], t.Encode("\u00fc\u00e9"));
        Assert.Equal("a\u00e9a", t.Decode([1, 2, 3, 1]));
        Assert.Equal("a\uFFFDa", t.Decode([1, 2, 1]));
        Assert.Equal("\uFFFD\uFFFD\uFFFD", t.Decode([2, 3, 2])); // the run is one: all of it is invalid
    }

    [Fact]
    public void Ignore_merges_takes_a_whole_word_from_the_vocabulary()
    {
        using var small = new SmallTokenizer();
        string[] vocabulary = ["a", "b", "ab", "aba"];
        Assert.Equal([3], small.Load(SmallTokenizer.Json(vocabulary, ["a b"], "\"ignore_merges\":true,")).Encode("aba"));
        Assert.Equal([2, 0], small.Load(SmallTokenizer.Json(vocabulary, ["a b"])).Encode("aba"));
    }

    [Fact]
    public void Prefix_and_suffix_mark_the_inside_and_the_end_of_words()
    {
        using var small = new SmallTokenizer();
        Tokenizer t = small.Load(SmallTokenizer.Json(
            ["a", "##b", "##b</w>", "ab", "ab</w>"], ["a ##b", "a ##b</w>"],
            "\"continuing_subword_prefix\":\"##\",\"end_of_word_suffix\":\"</w>\","));
        Assert.Equal([4], t.Encode("ab"));
        Assert.Equal([3, 2], t.Encode("abb"));
    }

    [Fact]
    public void A_word_longer_than_the_cache_takes_equals_one_inside()
    {
        using var small = new SmallTokenizer();
        Tokenizer t = small.Load(SmallTokenizer.Json(["a", "b", "ab", "abab"], ["a b", "ab ab"]));
        for (int n = 1; n < 600; n += 37)
        {
            // abab^(n/2) and one ab when n is odd.
            int[] expected = [.. Enumerable.Repeat(3, n / 2), .. Enumerable.Repeat(2, n % 2)];
            string text = string.Concat(Enumerable.Repeat("ab", n));
            Assert.Equal(expected, t.Encode(text));
            Assert.Equal(expected, t.Encode(text)); // now from the cache, where it fits
        }
    }

    [Fact]
    public void Merges_as_pairs_and_as_text_are_the_same()
    {
        using var small = new SmallTokenizer();
        string text = SmallTokenizer.Json(["a", "b", "ab"], ["a b"]);
        Assert.Equal([2], small.Load(text).Encode("ab"));
        Assert.Equal([2], small.Load(text.Replace("\"a b\"", "[\"a\",\"b\"]", StringComparison.Ordinal)).Encode("ab"));
    }

    [Fact]
    public void Template_and_sequences_of_processors_wrap_the_ids()
    {
        using var small = new SmallTokenizer();
        const string Template = """
            {"type":"Sequence","processors":[{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false,"use_regex":true},
            {"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},
            {"SpecialToken":{"id":"</s>","type_id":0}}],"pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[1],"tokens":["<s>"]},
            "</s>":{"id":"</s>","ids":[2],"tokens":["</s>"]}}}]}
            """;
        Tokenizer t = small.Load(SmallTokenizer.Json(
            ["a", "<s>", "</s>"], [], postProcessor: Template,
            added: $"[{SmallTokenizer.Added(1, "<s>", "\"special\":true")},{SmallTokenizer.Added(2, "</s>", "\"special\":true")}]"));
        Assert.Equal([1, 0, 2], t.Encode("a"));
        Assert.Equal([1, 2], t.Encode(""));
        Assert.Equal([0], t.Encode("a", addSpecialTokens: false));
        Assert.Equal([1, 0, 1, 2], t.Encode("a<s>"));
        Assert.Equal(1, t.SpecialTokens.BeginningOfSequence);
        Assert.Equal(2, t.SpecialTokens.EndOfSequence);
        Assert.Null(t.SpecialTokens.Padding);
        Assert.True(t.IsSpecial(2));
        Assert.Equal("a", t.Decode([1, 0, 2]));
        Assert.Equal("<s> a </s>", t.Decode([1, 0, 2], skipSpecialTokens: false)); // without a decoder: joined by spaces
    }

    [Fact]
    public void Special_tokens_come_from_the_configuration_beside()
    {
        using var small = new SmallTokenizer();
        System.IO.File.WriteAllText(
            Path.Combine(small.DirectoryPath, "tokenizer_config.json"),
            """{"bos_token":null,"eos_token":{"content":"</s>","lstrip":false},"pad_token":"<s>","unk_token":"absent"}""");
        small.Load(SmallTokenizer.Json(["a", "<s>", "</s>"], []));
        SpecialTokens special = Tokenizer.Load(small.DirectoryPath).SpecialTokens;
        Assert.Equal((null, 2, 1, null), (special.BeginningOfSequence, special.EndOfSequence, special.Padding, special.Unknown));
    }
}
