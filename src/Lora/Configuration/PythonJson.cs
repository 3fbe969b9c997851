using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Engine.Lora;

/// <summary>
/// Writes JSON exactly as Python's <c>json.dumps(…, indent=2)</c> does, so that a file PEFT wrote comes back byte for
/// byte: non-ASCII characters and nothing else escaped with lower-case hexadecimal, floats with Python's <c>repr</c>,
/// empty containers closed on the same line. <see cref="Utf8JsonWriter"/> differs in each of these.
/// </summary>
internal sealed class PythonJson
{
    private readonly StringBuilder _text = new();
    private int _depth;
    private bool _first = true;

    /// <param name="depth">How many levels the text will be put into.</param>
    public PythonJson(int depth = 0) => _depth = depth;

    /// <inheritdoc/>
    public override string ToString() => _text.ToString();

    public void Open(char bracket)
    {
        _text.Append(bracket);
        _depth++;
        _first = true;
    }

    public void Close(char bracket)
    {
        _depth--;
        if (!_first)
        {
            NewLine();
        }

        _text.Append(bracket);
        _first = false;
    }

    /// <summary>Starts the next element of a list.</summary>
    public void Item()
    {
        if (!_first)
        {
            _text.Append(',');
        }

        NewLine();
        _first = false;
    }

    /// <summary>Starts the next member of an object.</summary>
    public void Name(string name)
    {
        Item();
        String(name);
        _text.Append(": ");
    }

    public void Raw(string json) => _text.Append(json);

    public void Null() => Raw("null");

    public void Boolean(bool value) => Raw(value ? "true" : "false");

    public void Integer(long value) => _text.Append(CultureInfo.InvariantCulture, $"{value}");

    public void String(string? value)
    {
        if (value is null)
        {
            Null();
            return;
        }

        _text.Append('"');
        foreach (char c in value)
        {
            _ = c switch
            {
                '"' => _text.Append("\\\""),
                '\\' => _text.Append("\\\\"),
                '\n' => _text.Append("\\n"),
                '\r' => _text.Append("\\r"),
                '\t' => _text.Append("\\t"),
                '\f' => _text.Append("\\f"),
                '\b' => _text.Append("\\b"),
                >= ' ' and <= '~' => _text.Append(c),
                _ => _text.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}"),
            };
        }

        _text.Append('"');
    }

    /// <summary>A float as Python's <c>repr</c>: <c>0.0</c>, <c>0.05</c>, <c>1e-05</c>.</summary>
    public void Float(double value) => Raw(FloatText(value));

    /// <summary>A number that PEFT types as an integer but accepts as a float: an integer where it is one.</summary>
    public void Number(double value)
    {
        if (value == Math.Floor(value) && Math.Abs(value) < 1L << 53)
        {
            Integer((long)value);
        }
        else
        {
            Float(value);
        }
    }

    public void Strings(IEnumerable<string>? values)
    {
        if (values is null)
        {
            Null();
            return;
        }

        Open('[');
        foreach (string value in values)
        {
            Item();
            String(value);
        }

        Close(']');
    }

    /// <summary>A parsed value, its members in the order they came in.</summary>
    public void Element(JsonElement element)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.Object:
                Open('{');
                foreach (JsonProperty member in element.EnumerateObject())
                {
                    Name(member.Name);
                    Element(member.Value);
                }

                Close('}');
                break;
            case JsonValueKind.Array:
                Open('[');
                foreach (JsonElement item in element.EnumerateArray())
                {
                    Item();
                    Element(item);
                }

                Close(']');
                break;
            case JsonValueKind.String:
                String(element.GetString());
                break;
            default:
                Raw(element.GetRawText());
                break;
        }
    }

    /// <summary>
    /// The shortest digits that give the same double back, positional for exponents from −4 to 15 and with an exponent
    /// of at least two digits otherwise, as Python's <c>repr</c>.
    /// </summary>
    internal static string FloatText(double value)
    {
        // "R" has the shortest digits; where its notation changes differs from Python, so it is taken apart.
        string[] parts = value.ToString("R", CultureInfo.InvariantCulture).Split('E');
        string sign = parts[0].StartsWith('-') ? "-" : "";
        string mantissa = parts[0][sign.Length..];
        int point = mantissa.IndexOf('.', StringComparison.Ordinal);
        string digits = mantissa.Replace(".", "", StringComparison.Ordinal);
        int leading = digits.Length - digits.TrimStart('0').Length;
        int exponent = (point < 0 ? mantissa.Length : point) - leading - 1 +
            (parts.Length > 1 ? int.Parse(parts[1], CultureInfo.InvariantCulture) : 0);
        digits = digits.Trim('0');
        if (digits.Length == 0)
        {
            return sign + "0.0";
        }

        string text = exponent switch
        {
            < -4 or > 15 => $"{digits[0]}{(digits.Length > 1 ? "." : "")}{digits[1..]}e{(exponent < 0 ? '-' : '+')}{Math.Abs(exponent):00}",
            < 0 => $"0.{new string('0', -exponent - 1)}{digits}",
            _ => $"{digits.PadRight(exponent + 1, '0')[..(exponent + 1)]}.{(digits.Length > exponent + 1 ? digits[(exponent + 1)..] : "0")}",
        };
        return sign + text;
    }

    private void NewLine() => _text.Append('\n').Append(' ', 2 * _depth);
}
