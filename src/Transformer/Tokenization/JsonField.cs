using System.Text.Json;
using Engine.Tensors;

namespace Engine.Transformer.Tokenization;

/// <summary>A value in a JSON file that knows its file and path, so that every complaint names both.</summary>
internal readonly struct JsonField(string file, string path, JsonElement element)
{
    public string File => file;

    public string Path => path;

    public JsonElement Element => element;

    public bool IsNull => element.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined;

    /// <summary>Parses a whole file; the root's path is empty.</summary>
    public static JsonDocument ReadDocument(string file)
    {
        try
        {
            using FileStream stream = System.IO.File.OpenRead(file);
            return JsonDocument.Parse(stream, new JsonDocumentOptions { MaxDepth = 128 });
        }
        catch (JsonException error)
        {
            throw new EngineDataException(
                $"{file}: not valid JSON at line {error.LineNumber + 1}, byte {error.BytePositionInLine + 1}; "
                + "the file may be truncated, copy it again", error);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new EngineDataException($"cannot read {file}: {error.Message}", error);
        }
    }

    public EngineDataException Error(string what) =>
        new($"{file}: {(path.Length == 0 ? "the top level" : $"field \"{path}\"")}: {what}");

    public JsonField? Optional(string name)
    {
        if (element.ValueKind != JsonValueKind.Object)
        {
            throw Error($"{Describe()} where an object is needed");
        }

        return element.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null
            ? new JsonField(file, path.Length == 0 ? name : $"{path}.{name}", value)
            : null;
    }

    public JsonField Required(string name) => Optional(name) ?? throw Error($"\"{name}\" is missing");

    public string Text() =>
        element.ValueKind == JsonValueKind.String ? WellFormed(element) : throw Error($"{Describe()} where a string is needed");

    public bool Flag() => element.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw Error($"{Describe()} where true or false is needed"),
    };

    public bool Flag(string name, bool fallback) => Optional(name)?.Flag() ?? fallback;

    public int Number() =>
        element.ValueKind == JsonValueKind.Number && element.TryGetInt32(out int value) && value >= 0
            ? value
            : throw Error($"{Describe()} where a whole number from 0 to {int.MaxValue} is needed");

    public List<JsonField> Items()
    {
        if (element.ValueKind != JsonValueKind.Array)
        {
            throw Error($"{Describe()} where a list is needed");
        }

        var items = new List<JsonField>(element.GetArrayLength());
        foreach (JsonElement item in element.EnumerateArray())
        {
            items.Add(new JsonField(file, $"{path}[{items.Count}]", item));
        }

        return items;
    }

    public IEnumerable<(string Name, JsonField Value)> Members()
    {
        if (element.ValueKind != JsonValueKind.Object)
        {
            throw Error($"{Describe()} where an object is needed");
        }

        foreach (JsonProperty property in element.EnumerateObject())
        {
            yield return (property.Name, new JsonField(file, $"{path}.{property.Name}", property.Value));
        }
    }

    /// <summary>The value as shown in a message, cut to a readable length.</summary>
    public string Describe()
    {
        string raw = element.ValueKind == JsonValueKind.Undefined ? "nothing" : element.GetRawText();
        return raw.Length <= 60 ? raw : raw[..57] + "...";
    }

    private string WellFormed(JsonElement value)
    {
        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException error)
        {
            // "\ud800" alone is valid JSON but no text.
            throw new EngineDataException(Error($"{Describe()} holds half a surrogate pair").Message, error);
        }
    }
}
