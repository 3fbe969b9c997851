using System.Text.Json;

namespace Engine.Transformer.Tokenization.Tests;

/// <summary>Ids and texts equal the reference library's, case by case.</summary>
[Trait("Device", "Cpu")]
public class ParityTests
{
    private static readonly string[] Required =
        ["gpt2", "gpt2-prefix-space", "llama3", "qwen2", "llama2", "mistral", "metaspace-unk", "added-tokens"];

    /// <summary>The required styles, and every other directory that the reference library has written cases for.</summary>
    public static TheoryData<string> Names =>
    [
        .. Required.Union(Directory.GetDirectories(TokenizerFixtures.Root)
            .Where(d => File.Exists(Path.Combine(d, "cases.jsonl"))).Select(d => Path.GetFileName(d)!).Order()),
    ];

    [Theory]
    [MemberData(nameof(Names))]
    public void Encode_and_decode_equal_the_reference(string name)
    {
        Tokenizer tokenizer = Tokenizer.Load(TokenizerFixtures.PathOf(name));
        var failures = new List<string>();
        int cases = 0;
        foreach (JsonElement row in TokenizerFixtures.Rows(name, "cases.jsonl"))
        {
            cases++;
            string text = row.GetProperty("text").GetString()!;
            int[] ids = TokenizerFixtures.Ids(row.GetProperty("ids"));
            Check(text, "ids", string.Join(',', ids), string.Join(',', tokenizer.Encode(text)));
            Check(text, "ids_no_special",
                string.Join(',', TokenizerFixtures.Ids(row.GetProperty("ids_no_special"))),
                string.Join(',', tokenizer.Encode(text, addSpecialTokens: false)));
            Check(text, "decoded", row.GetProperty("decoded").GetString()!, tokenizer.Decode(ids));
            Check(text, "decoded_with_special",
                row.GetProperty("decoded_with_special").GetString()!, tokenizer.Decode(ids, skipSpecialTokens: false));
        }

        Assert.True(cases >= 90, $"only {cases} cases");
        Assert.True(failures.Count == 0, $"{failures.Count} differences in {cases} cases\n" + string.Join('\n', failures.Take(20)));

        void Check(string text, string what, string expected, string actual)
        {
            if (expected != actual)
            {
                failures.Add($"{TokenizerFixtures.Show(text)} {what}: expected {TokenizerFixtures.Show(expected)}, got {TokenizerFixtures.Show(actual)}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Decoding_random_ids_equals_the_reference_whole_and_streamed(string name)
    {
        Tokenizer tokenizer = Tokenizer.Load(TokenizerFixtures.PathOf(name));
        int cases = 0;
        int streams = 0;
        foreach (JsonElement row in TokenizerFixtures.Rows(name, "decode.jsonl"))
        {
            cases++;
            int[] ids = TokenizerFixtures.Ids(row.GetProperty("ids"));
            Assert.Equal(row.GetProperty("decoded").GetString(), tokenizer.Decode(ids));
            Assert.Equal(row.GetProperty("decoded_with_special").GetString(), tokenizer.Decode(ids, skipSpecialTokens: false));

            JsonElement stream = row.GetProperty("stream");
            TokenStreamDecoder decoder = tokenizer.CreateStreamDecoder();
            if (stream.ValueKind == JsonValueKind.Object)
            {
                // The reference gives up where earlier text changes; ours goes on.
                Array.ForEach(ids, id => decoder.Add(id));
                continue;
            }

            streams++;
            int i = 0;
            foreach (JsonElement part in stream.EnumerateArray())
            {
                Assert.Equal(part.GetString() ?? "", decoder.Add(ids[i++]));
            }
        }

        Assert.True(cases >= 40 && streams >= 30, $"{cases} cases, {streams} streams");
    }

    [Fact]
    public void Normalizers_equal_the_reference()
    {
        int cases = 0;
        foreach (JsonElement row in TokenizerFixtures.Rows("normalizers.jsonl"))
        {
            cases++;
            JsonElement spec = row.GetProperty("normalizer");
            string text = row.GetProperty("text").GetString()!;
            string actual = TokenizerJsonReader.ReadNormalizer(new JsonField("normalizers.jsonl", "normalizer", spec)).Apply(text);
            Assert.True(
                row.GetProperty("normalized").GetString() == actual,
                $"{spec} on {TokenizerFixtures.Show(text)}: expected {row.GetProperty("normalized")}, got {TokenizerFixtures.Show(actual)}");
        }

        Assert.True(cases >= 300, $"only {cases} cases");
    }

    [Fact]
    public void Pre_tokenizers_equal_the_reference()
    {
        var specs = new Dictionary<int, JsonElement>();
        var failures = new List<string>();
        int cases = 0;
        foreach (JsonElement row in TokenizerFixtures.Rows("pre_tokenizers.jsonl"))
        {
            int index = row.GetProperty("p").GetInt32();
            if (row.TryGetProperty("pre_tokenizer", out JsonElement spec))
            {
                specs.Add(index, spec);
                continue;
            }

            cases++;
            string text = row.GetProperty("text").GetString()!;
            PreTokenizer part = TokenizerJsonReader.ReadPreTokenizer(new JsonField("pre_tokenizers.jsonl", "pre_tokenizer", specs[index]));
            int head = text.Length == 0 ? 0 : char.IsHighSurrogate(text[0]) ? 2 : 1;
            List<Piece> input = text.Length == 0 ? [] : [new Piece(text, 0, text.Length, head)];
            string actual = string.Join('\u0001', part.Apply(input).Select(p => p.ToString()));
            string expected = string.Join('\u0001', row.GetProperty("pieces").EnumerateArray().Select(e => e.GetString()));
            if (actual != expected)
            {
                failures.Add($"{specs[index]} on {TokenizerFixtures.Show(text)}: expected {TokenizerFixtures.Show(expected)}, got {TokenizerFixtures.Show(actual)}");
            }
        }

        Assert.True(cases >= 900, $"only {cases} cases");
        Assert.True(failures.Count == 0, $"{failures.Count} differences in {cases} cases\n" + string.Join('\n', failures.Take(20)));
    }
}
