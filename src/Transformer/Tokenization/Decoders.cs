using System.Globalization;
using System.Text;

namespace Engine.Transformer.Tokenization;

/// <summary>The "decoder" of a tokenizer.json: from the tokens' texts to pieces of text that are concatenated.</summary>
internal abstract class TokenDecoder
{
    public abstract List<string> Apply(List<string> tokens);
}

internal sealed class DecoderSequence(IReadOnlyList<TokenDecoder> parts) : TokenDecoder
{
    public override List<string> Apply(List<string> tokens) =>
        parts.Aggregate(tokens, (current, part) => part.Apply(current));
}

/// <summary>Undoes the byte-to-character mapping; invalid UTF-8 becomes U+FFFD, one for each maximal invalid part.</summary>
internal sealed class ByteLevelDecoder : TokenDecoder
{
    public override List<string> Apply(List<string> tokens)
    {
        var bytes = new List<byte>(tokens.Count * 4);
        foreach (string token in tokens)
        {
            if (token.All(c => ByteLevelAlphabet.ToByte(c) >= 0))
            {
                bytes.AddRange(token.Select(c => (byte)ByteLevelAlphabet.ToByte(c)));
            }
            else
            {
                bytes.AddRange(Encoding.UTF8.GetBytes(token));
            }
        }

        return [Encoding.UTF8.GetString([.. bytes])];
    }
}

/// <summary>Replaces every match of a pattern in each token.</summary>
internal sealed class ReplaceDecoder(SplitPattern pattern, string replacement) : TokenDecoder
{
    public override List<string> Apply(List<string> tokens) => tokens.ConvertAll(t => pattern.Replace(t, replacement));
}

/// <summary>
/// Joins runs of &lt;0xNN&gt; tokens into text. A run that is not valid UTF-8 as a whole becomes one U+FFFD per byte.
/// </summary>
internal sealed class ByteFallbackDecoder : TokenDecoder
{
    public override List<string> Apply(List<string> tokens)
    {
        var output = new List<string>(tokens.Count);
        var run = new List<byte>();
        foreach (string token in tokens)
        {
            if (ByteOf(token) is byte value)
            {
                run.Add(value);
                continue;
            }

            Flush(run, output);
            output.Add(token);
        }

        Flush(run, output);
        return output;
    }

    private static byte? ByteOf(string token) =>
        token.Length == 6 && token.StartsWith("<0x", StringComparison.Ordinal) && token[5] == '>'
        && byte.TryParse(token.AsSpan(3, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out byte value)
            ? value
            : null;

    private static void Flush(List<byte> run, List<string> output)
    {
        if (run.Count == 0)
        {
            return;
        }

        byte[] bytes = [.. run];
        run.Clear();
        if (System.Text.Unicode.Utf8.IsValid(bytes))
        {
            output.Add(Encoding.UTF8.GetString(bytes));
        }
        else
        {
            output.AddRange(Enumerable.Repeat("\uFFFD", bytes.Length));
        }
    }
}

/// <summary>Joins all tokens into one.</summary>
internal sealed class FuseDecoder : TokenDecoder
{
    public override List<string> Apply(List<string> tokens) => [string.Concat(tokens)];
}

/// <summary>Removes up to a number of one character at each end of each token.</summary>
internal sealed class StripDecoder(string content, int start, int stop) : TokenDecoder
{
    public override List<string> Apply(List<string> tokens) => tokens.ConvertAll(Strip);

    private string Strip(string token)
    {
        int from = 0;
        for (int i = 0; i < start && string.CompareOrdinal(token, from, content, 0, content.Length) == 0; i++)
        {
            from += content.Length;
        }

        int to = token.Length;
        for (int i = 0; i < stop && to - content.Length >= from
            && string.CompareOrdinal(token, to - content.Length, content, 0, content.Length) == 0; i++)
        {
            to -= content.Length;
        }

        return token[from..to];
    }
}

/// <summary>Marks become spaces again; in the first token they vanish, unless nothing was ever put in front.</summary>
internal sealed class MetaspaceDecoder(char mark, PrependScheme scheme) : TokenDecoder
{
    public override List<string> Apply(List<string> tokens)
    {
        var output = new List<string>(tokens.Count);
        for (int i = 0; i < tokens.Count; i++)
        {
            bool remove = i == 0 && scheme != PrependScheme.Never;
            output.Add(remove ? tokens[i].Replace(mark.ToString(), "", StringComparison.Ordinal) : tokens[i].Replace(mark, ' '));
        }

        return output;
    }
}
