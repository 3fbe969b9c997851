using Engine.Transformer.Tokenization;

namespace Engine.Transformer.Tests.Generation;

[Trait("Device", "Cpu")]
public class StreamedTextTests
{
    private static readonly Tokenizer Letters = LetterTokenizer.Create();

    private static (List<string> Parts, StreamedText Text) Feed(IEnumerable<int> ids, params string[] stops)
    {
        var text = new StreamedText(Letters, stops);
        var parts = new List<string>();
        foreach (int id in ids)
        {
            parts.Add(text.Add(id));
            if (text.Stopped)
            {
                return (parts, text);
            }
        }

        parts.Add(text.Finish());
        return (parts, text);
    }

    [Fact]
    public void Text_comes_token_by_token()
    {
        (List<string> parts, StreamedText text) = Feed(Letters.Encode("ab c"));
        Assert.Equal(["a", "b", " ", "c", ""], parts);
        Assert.Equal("ab c", text.Text);
        Assert.False(text.Stopped);
    }

    [Fact]
    public void The_bytes_of_a_character_wait_for_each_other()
    {
        (List<string> parts, _) = Feed([0, LetterTokenizer.FirstByte, LetterTokenizer.SecondByte, 1]);
        Assert.Equal(["a", "", "é", "b", ""], parts);
    }

    [Fact]
    public void What_may_begin_a_stop_string_is_held_back()
    {
        (List<string> parts, StreamedText text) = Feed(Letters.Encode("xababcd"), "abc");
        Assert.Equal(["x", "", "", "ab", "", ""], parts);
        Assert.True(text.Stopped);
        Assert.Equal("xab", text.Text);
    }

    [Fact]
    public void What_only_began_a_stop_string_comes_at_the_end()
    {
        (List<string> parts, StreamedText text) = Feed(Letters.Encode("xab"), "abc", "abdd");
        Assert.Equal(["x", "", "", "ab"], parts);
        Assert.Equal("xab", text.Text);
        Assert.False(text.Stopped);
    }

    [Fact]
    public void The_first_of_several_stop_strings_counts()
    {
        (_, StreamedText text) = Feed(Letters.Encode("one;two.three"), "three", ".", "two");
        Assert.Equal("one;", text.Text);
    }

    [Fact]
    public void A_stop_string_may_be_a_single_character_and_come_first()
    {
        (List<string> parts, StreamedText text) = Feed(Letters.Encode(";a"), ";");
        Assert.Equal([""], parts);
        Assert.True(text.Stopped);
        Assert.Equal("", text.Text);
    }

    [Fact]
    public void Special_tokens_have_no_text()
    {
        (_, StreamedText text) = Feed([0, LetterTokenizer.End, 1]);
        Assert.Equal("ab", text.Text);
    }
}
