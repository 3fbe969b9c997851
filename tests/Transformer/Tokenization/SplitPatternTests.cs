namespace Engine.Transformer.Tokenization.Tests;

/// <summary>The pattern engine: Oniguruma's meaning where .NET's Regex would differ, and errors for the rest.</summary>
[Trait("Device", "Cpu")]
public class SplitPatternTests
{
    [Theory]
    [InlineData(@"\s", "a\u0085b\u00a0c\u3000d\u2028e\u180ef\ufeffg\u200bh\u001ci", "\u0085|\u00a0|\u3000|\u2028")]
    [InlineData(@"\p{L}+", "x\U0001D400\U00020000\u4e2d1\U0001F600", "x\U0001D400\U00020000\u4e2d")]
    [InlineData(@"\p{N}+", "a\u0661\u00bd\u2167\U0001D7D8b", "\u0661\u00bd\u2167\U0001D7D8")]
    [InlineData(@"[^\s\p{L}]", "a \U0001F600\U0001D400!", "\U0001F600|!")]
    [InlineData(@".", "a\n\U0001F600", "a|\U0001F600")]
    [InlineData(@"(?i:'s|'re)", "'S 'Re '\u017f 'x", "'S|'Re|'\u017f")]
    [InlineData(@"(?i)k", "k K \u212A", "k|K|\u212A")]
    [InlineData(@"(?i:[a-c]+)", "aBCd", "aBC")]
    [InlineData(@"\d{1,3}", "12345", "123|45")]
    [InlineData(@"a{,2}b", "aaab", "aab")]
    [InlineData(@"a{x", "a{x", "a{x")]
    [InlineData(@"a+?b|a", "aab a", "aab|a")]
    [InlineData(@"a++a|b", "aab", "b")]
    [InlineData(@"(?>a+)b", "aab", "aab")]
    [InlineData(@"(?:ab)+c|ab", "ababc ab", "ababc|ab")]
    [InlineData(@"(?:a|ab)(?:c|bcd)", "abcd", "abcd")]
    [InlineData(@"(?:a*)*b", "aab", "aab")]
    [InlineData(@"(?:ab){2,3}", "abababab", "ababab")]
    [InlineData(@"(?:ab){2,3}?", "abababab", "abab|abab")]
    [InlineData(@"\s+(?!\S)|\s+", "a   b  ", "  | |  ")]
    [InlineData(@"(?<=a)b|(?<!a)c", "ab bc ac", "b|c")]
    [InlineData(@"^b$", "a\nb\nc", "b")]
    [InlineData(@"\Aa|a\z", "aaa", "a|a")]
    [InlineData(@"\bab\b", "ab cab ab.", "ab|ab")]
    [InlineData(@"[\w&&[^\d_]]+", "ab12_c", "ab|c")]
    [InlineData(@"[a-c[x-z]]+", "bdxy", "b|xy")]
    [InlineData(@"[^a-c]", "abdc", "d")]
    [InlineData(@"[]a]+|[a\-z]", "]a-", "]a|-")]
    [InlineData(@"\x41|\x{1F600}|\u0042", "A\U0001F600B", "A|\U0001F600|B")]
    [InlineData(@"\P{L}|\p{^N}", "a1", "a|1")]
    [InlineData(@"\p{Lu}\p{M}*", "A\u0301b", "A\u0301")]
    [InlineData(@"\h+\H", "beefy", "beefy")]
    [InlineData(@"\w+", "a\u0301_\u24b6\u203f9\u2460\u200d!", "a\u0301_\u24b6\u203f9")]
    public void Matches(string pattern, string text, string expected)
    {
        var segments = new List<Segment>();
        SplitPattern.Parse(pattern).Segment(text, segments);
        Assert.Equal(expected, string.Join('|', segments.Where(s => s.IsMatch).Select(s => text.Substring(s.Start, s.Length))));
        Assert.Equal(text, string.Concat(segments.Select(s => text.Substring(s.Start, s.Length))));
    }

    [Theory]
    [InlineData("(", "without ')'")]
    [InlineData("a)", "unmatched")]
    [InlineData("[a", "without ']'")]
    [InlineData("*a", "nothing before")]
    [InlineData("(?<name>a)", "unsupported group")]
    [InlineData(@"\p{Greek}", "{Greek}")]
    [InlineData(@"\p", "without {")]
    [InlineData(@"\1", "escape")]
    [InlineData(@"\R", "escape")]
    [InlineData("[[:alpha:]]", "POSIX")]
    [InlineData("[z-a]", "end is before")]
    [InlineData("a{3,2}", "minimum")]
    [InlineData("a{999999}", "100000")]
    [InlineData("\\", "backslash")]
    [InlineData(@"\x{110000}", "10FFFF")]
    public void What_is_not_supported_is_named(string pattern, string part) =>
        Assert.Contains(part, Assert.Throws<FormatException>(() => SplitPattern.Parse(pattern)).Message, StringComparison.Ordinal);

    [Fact]
    public void Deep_nesting_is_an_error_and_not_a_crash()
    {
        Assert.Throws<FormatException>(() => SplitPattern.Parse(new string('(', 5000)));
        Assert.Throws<FormatException>(() => SplitPattern.Parse(new string('[', 5000)));
        Assert.Throws<Engine.Tensors.EngineDataException>(
            () => SplitPattern.Parse("(?:a|b)+").Segment(new string('a', 10_000_000), []));
    }
}
