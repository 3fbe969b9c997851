using System.Text;

namespace Engine.Transformer;

/// <summary>Text taken from a file, made fit for an error message.</summary>
public static class ErrorText
{
    private const int MaxLength = 80;

    /// <summary>
    /// <paramref name="text"/> in double quotes, shortened to 80 characters, control characters written as
    /// <c>\uXXXX</c>: a hostile name can neither flood nor steer the terminal.
    /// </summary>
    public static string Quote(string text) => $"\"{Clip(text)}\"";

    /// <summary>As <see cref="Quote(string)"/>, without the quotes.</summary>
    public static string Clip(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        bool cut = text.Length > MaxLength;
        ReadOnlySpan<char> shown = cut ? text.AsSpan(0, MaxLength) : text;
        var result = new StringBuilder(shown.Length + 1);
        foreach (char c in shown)
        {
            if (char.IsControl(c) || char.IsSurrogate(c))
            {
                result.Append("\\u").Append(((int)c).ToString("x4"));
            }
            else
            {
                result.Append(c);
            }
        }

        return cut ? result.Append('…').ToString() : result.ToString();
    }

    /// <summary>Raw UTF-8 JSON text (already known to be valid UTF-8), clipped.</summary>
    public static string Clip(ReadOnlySpan<byte> utf8) =>
        Clip(Encoding.UTF8.GetString(utf8.Length > 4 * MaxLength ? utf8[..(4 * MaxLength)] : utf8));

    /// <summary>A shape as <c>[2, 3]</c>; more than 16 dimensions are elided.</summary>
    public static string Shape(ReadOnlySpan<long> shape)
    {
        var result = new StringBuilder("[");
        for (int i = 0; i < Math.Min(shape.Length, 16); i++)
        {
            result.Append(i == 0 ? "" : ", ").Append(shape[i]);
        }

        return result.Append(shape.Length > 16 ? ", …]" : "]").ToString();
    }
}
