using System.Text.Json;
using Engine.Tensors;

namespace Engine.Lora;

/// <summary>
/// Reads typed values out of a configuration file; every failure names the file, the field, the value found and what
/// would be right.
/// </summary>
internal static class ConfigJson
{
    private const int LongestShownValue = 120;

    private static readonly JsonDocumentOptions s_options = new() { AllowDuplicateProperties = false };

    /// <summary>Parses a JSON object; duplicate fields are refused, because one of the two would be ignored.</summary>
    public static JsonDocument ParseObject(ReadOnlyMemory<byte> utf8, string source)
    {
        JsonDocument document;
        try
        {
            document = JsonDocument.Parse(utf8, s_options);
        }
        catch (JsonException error)
        {
            throw new EngineDataException($"{source}: not valid JSON: {error.Message}", error);
        }

        if (document.RootElement.ValueKind != JsonValueKind.Object)
        {
            document.Dispose();
            throw new EngineDataException($"{source}: expected a JSON object {{…}} at the top");
        }

        return document;
    }

    public static byte[] ReadFile(string path)
    {
        try
        {
            return File.ReadAllBytes(path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new EngineDataException($"cannot read {path}: {error.Message}", error);
        }
    }

    public static EngineDataException Wrong(string source, string field, JsonElement value, string expected) =>
        new($"{source}: field \"{field}\" is {Show(value)}; expected {expected}");

    public static string Show(JsonElement value)
    {
        string text = value.GetRawText();
        return text.Length <= LongestShownValue ? text : string.Concat(text.AsSpan(0, LongestShownValue), "…");
    }

    public static bool IsNull(JsonElement value) => value.ValueKind == JsonValueKind.Null;

    public static int Integer(JsonElement value, string source, string field, string expected = "an integer") =>
        value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int number)
            ? number
            : throw Wrong(source, field, value, expected);

    public static double Number(JsonElement value, string source, string field, string expected = "a number") =>
        value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double number) && double.IsFinite(number)
            ? number
            : throw Wrong(source, field, value, expected);

    public static bool Boolean(JsonElement value, string source, string field) => value.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw Wrong(source, field, value, "true or false"),
    };

    public static string String(JsonElement value, string source, string field, string expected = "a string") =>
        value.ValueKind == JsonValueKind.String ? Text(value, source, field) : throw Wrong(source, field, value, expected);

    public static string? OptionalString(JsonElement value, string source, string field) =>
        IsNull(value) ? null : String(value, source, field, "a string or null");

    public static List<string> Strings(JsonElement value, string source, string field, string expected)
    {
        if (value.ValueKind != JsonValueKind.Array)
        {
            throw Wrong(source, field, value, expected);
        }

        var list = new List<string>(value.GetArrayLength());
        foreach (JsonElement item in value.EnumerateArray())
        {
            list.Add(String(item, source, field, $"{expected}; every element a string"));
        }

        return list;
    }

    private static string Text(JsonElement value, string source, string field)
    {
        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException error)
        {
            // A lone surrogate escape such as "\ud800" parses as JSON but is no text.
            throw new EngineDataException($"{source}: field \"{field}\" is not valid Unicode text", error);
        }
    }
}
