using Engine.Lora.Data;
using Engine.Tensors;

namespace Engine.Lora.Tests.Data;

[Trait("Device", "Cpu")]
public class ExampleBuilderTests
{
    private const int Bos = 1;
    private const int Eos = 2;

    private static readonly DataRow s_row = new() { Source = "f:3", Segments = [new("abc", false), new("de", true)] };

    private static ExampleBuilder Builder(int maxLength = 64, bool truncate = false, bool bos = true, int vocabulary = 200, bool eos = true) =>
        new(new ExampleOptions { VocabularySize = vocabulary, MaxLength = maxLength, Truncate = truncate, AppendEos = eos }, new Bytes(bos));

    [Fact]
    public void Masks_the_prompt_and_ends_the_completion()
    {
        Example example = Builder().Build(s_row);
        Assert.Equal([Bos, 'a', 'b', 'c', 'd', 'e', Eos], example.Tokens);
        Assert.Equal([-100, -100, -100, -100, 'd', 'e', Eos], example.Labels);
        Assert.Equal(3, example.LabelledTokens);
        Assert.Equal(['a', 'b', 'c', 'd', 'e'], Builder(bos: false, eos: false).Build(s_row).Tokens);
        Assert.Equal([Bos, 'a', 'b', 'c'], Builder().Prompt(s_row));
    }

    [Fact]
    public void Learns_all_of_a_text_but_its_first_token()
    {
        var row = new DataRow { Source = "f:1", Segments = [new("xyz", true)] };
        Assert.Equal([-100, 'x', 'y', 'z', Eos], Builder().Build(row).Labels);
        Assert.Equal([-100, 'y', 'z', Eos], Builder(bos: false).Build(row).Labels);
    }

    [Fact]
    public void Takes_ids_as_they_are()
    {
        var row = new DataRow { Source = "f:1", InputIds = [5, 6, 7, 8], Labels = [-100, -100, 7, 8] };
        var builder = new ExampleBuilder(new ExampleOptions { VocabularySize = 9, MaxLength = 4 }, encoder: null);
        Example example = builder.Build(row);
        Assert.Equal([5, 6, 7, 8], example.Tokens);
        Assert.Equal([-100, -100, 7, 8], example.Labels);
        Assert.Equal([5, 6], builder.Prompt(row));
        Assert.Contains("no tokenizer.json", Assert.Throws<EngineDataException>(() => builder.Build(s_row)).Message);
    }

    [Theory]
    [InlineData(6, new[] { Bos, 'b', 'c', 'd', 'e', Eos }, new[] { -100, -100, -100, 'd', 'e', Eos })]
    [InlineData(4, new[] { Bos, 'd', 'e', Eos }, new[] { -100, 'd', 'e', Eos })]
    [InlineData(3, new[] { Bos, 'd', 'e' }, new[] { -100, 'd', 'e' })]
    public void Truncates_the_prompt_from_the_left_and_then_the_end(int maxLength, int[] tokens, int[] labels)
    {
        Example example = Builder(maxLength, truncate: true).Build(s_row);
        Assert.Equal(tokens, example.Tokens);
        Assert.Equal(labels, example.Labels);
    }

    [Fact]
    public void Explains_what_is_wrong()
    {
        Check(Builder(6), s_row, "f:3: the sequence has 7 tokens, longer than the 6 allowed");
        Check(Builder(vocabulary: 100), s_row, "f:3: token[4] is 100; a token id from 0 to 99");
        Check(Builder(vocabulary: 9), Ids([3, 9], [3, 9]), "f:1: input_ids[1] is 9; a token id from 0 to 8 is needed, the model's vocabulary has 9");
        Check(Builder(vocabulary: 9), Ids([3, -1], [3, 3]), "f:1: input_ids[1] is -1");
        Check(Builder(vocabulary: 9), Ids([3, 4], [-100, -101]), "f:1: labels[1] is -101; a token id from 0 to 8 or -100");
        Check(Builder(), Ids([3, 4], [3, -100]), "f:1: there is nothing to learn");
        Check(Builder(), Ids([3], [3]), "f:1: there is nothing to learn");
        Check(Builder(), Ids([], []), "f:1: there is nothing to learn");

        static DataRow Ids(int[] ids, int[] labels) => new() { Source = "f:1", InputIds = ids, Labels = labels };
        static void Check(ExampleBuilder builder, DataRow row, string expected) =>
            Assert.StartsWith(expected, Assert.Throws<EngineDataException>(() => builder.Build(row)).Message);
    }

    // One token a character; a template that puts a BOS in front.
    private sealed class Bytes(bool bos) : ITokenEncoder
    {
        public int? BosId => Bos;

        public int? EosId => Eos;

        public int[] Encode(string text, bool addSpecial) => [.. addSpecial && bos ? [Bos] : Array.Empty<int>(), .. text.Select(c => (int)c)];
    }
}
