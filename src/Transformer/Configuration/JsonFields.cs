using System.Diagnostics.CodeAnalysis;
using System.Text.Json;
using Engine.Tensors;

namespace Engine.Transformer;

/// <summary>
/// A JSON object from a configuration file, read field by field. Every failure is an
/// <see cref="EngineDataException"/> that names the file, the field, the value and what would be right.
/// A field that is absent and one that is <c>null</c> are treated alike.
/// </summary>
public sealed class JsonFields
{
    private const long MaxFileLength = 16 << 20;

    private readonly JsonElement _object;
    private readonly string _prefix;

    private JsonFields(string file, string prefix, JsonElement json, ReadOnlyMemory<byte> utf8)
    {
        File = file;
        _prefix = prefix;
        _object = json;
        Utf8 = utf8;
    }

    /// <summary>The file's path, for messages.</summary>
    public string File { get; }

    /// <summary>The document's text without a byte order mark; empty for a nested object.</summary>
    public ReadOnlyMemory<byte> Utf8 { get; }

    /// <summary>The names of all fields, in the file's order.</summary>
    public IEnumerable<string> Names => _object.EnumerateObject().Select(property => property.Name);

    /// <summary>Reads a file whose root is an object.</summary>
    /// <exception cref="EngineDataException">The file is missing, over 16 MiB, not JSON, or its root is not an object.</exception>
    public static JsonFields Load(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        try
        {
            var info = new FileInfo(path);
            if (info.Exists && info.Length > MaxFileLength)
            {
                throw new EngineDataException($"{path}: the file has {info.Length} bytes; a configuration has at most {MaxFileLength}");
            }

            return Parse(System.IO.File.ReadAllBytes(path), path);
        }
        catch (Exception error) when (error is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new EngineDataException($"{path}: there is no such file", error);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new EngineDataException($"{path}: cannot be read: {error.Message}", error);
        }
    }

    /// <summary>Reads a document that is already in memory.</summary>
    /// <param name="utf8">The document; a byte order mark is passed over.</param>
    /// <param name="file">What messages call it.</param>
    /// <exception cref="EngineDataException">The text is not JSON, or its root is not an object.</exception>
    public static JsonFields Parse(ReadOnlyMemory<byte> utf8, string file)
    {
        if (utf8.Span.StartsWith((ReadOnlySpan<byte>)[0xEF, 0xBB, 0xBF]))
        {
            utf8 = utf8[3..];
        }

        if (!System.Text.Unicode.Utf8.IsValid(utf8.Span))
        {
            throw new EngineDataException($"{file}: not valid UTF-8");
        }

        try
        {
            using var document = JsonDocument.Parse(utf8, new JsonDocumentOptions { AllowDuplicateProperties = false });
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? new JsonFields(file, "", document.RootElement.Clone(), utf8)
                : throw new EngineDataException($"{file}: the root is not a JSON object");
        }
        catch (JsonException error)
        {
            // The reader's own words, without its line count from 0 and its path.
            string reason = error.Message.Split([" LineNumber:", " Path:"], StringSplitOptions.None)[0];
            throw new EngineDataException(
                $"{file}: not valid JSON at line {error.LineNumber + 1}, byte {error.BytePositionInLine + 1}: {ErrorText.Clip(reason)}", error);
        }
        catch (InvalidOperationException error)
        {
            throw new EngineDataException($"{file}: a field's name holds an escape that is no Unicode character", error);
        }
    }

    /// <summary>True when the field is present and not <c>null</c>.</summary>
    public bool Has(string name) => TryGet(name, out _);

    /// <summary>True when the field is present, be it <c>null</c>.</summary>
    public bool IsPresent(string name) => _object.TryGetProperty(name, out _);

    /// <summary>The raw value, when the field is present and not <c>null</c>.</summary>
    public bool TryGet(string name, out JsonElement value) =>
        _object.TryGetProperty(name, out value) && value.ValueKind != JsonValueKind.Null;

    /// <summary>A nested object, or null.</summary>
    public JsonFields? Object(string name) => !TryGet(name, out JsonElement value)
        ? null
        : value.ValueKind == JsonValueKind.Object
        ? new JsonFields(File, $"{_prefix}{name}.", value, default)
        : throw Wrong(name, value, "an object");

    /// <summary>A string, or null.</summary>
    public string? String(string name) => !TryGet(name, out JsonElement value)
        ? null
        : value.ValueKind == JsonValueKind.String
        ? Text(name, value)
        : throw Wrong(name, value, "a string");

    /// <summary>A boolean.</summary>
    public bool Bool(string name, bool absent) => !TryGet(name, out JsonElement value)
        ? absent
        : value.ValueKind switch
        {
            JsonValueKind.True => true,
            JsonValueKind.False => false,
            _ => throw Wrong(name, value, "true or false"),
        };

    /// <summary>A 32-bit integer of at least <paramref name="minimum"/>, or null.</summary>
    public int? Int(string name, int minimum = int.MinValue) => !TryGet(name, out JsonElement value)
        ? null
        : value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int number) && number >= minimum
        ? number
        : throw Wrong(name, value, minimum switch { int.MinValue => "an integer", 1 => "a positive integer", _ => $"an integer of at least {minimum}" });

    /// <summary>A positive 32-bit integer that must be there.</summary>
    public int RequiredSize(string name) => Int(name, 1) ?? throw Missing(name, "a positive integer");

    /// <summary>
    /// The number of blocks, which must be there. Lists have an entry for each, so a count that no model has is refused
    /// before memory is taken for it.
    /// </summary>
    public int RequiredLayerCount(string name)
    {
        const int Most = 10_000;
        int count = RequiredSize(name);
        return count <= Most ? count : throw Wrong(name, $"an integer from 1 to {Most}");
    }

    /// <summary>A finite number, or null.</summary>
    public double? Number(string name) => !TryGet(name, out JsonElement value)
        ? null
        : value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double number) && double.IsFinite(number)
        ? number
        : throw Wrong(name, value, "a finite number");

    /// <summary>A finite number over zero, or null.</summary>
    public double? Positive(string name) =>
        Number(name) is not { } number ? null : number > 0 ? number : throw Wrong(name, _object.GetProperty(name), "a number over 0");

    /// <summary>A number in [0, 1), or <paramref name="absent"/>.</summary>
    public double Probability(string name, double absent) =>
        Number(name) is not { } number ? absent : number is >= 0 and < 1 ? number : throw Wrong(name, _object.GetProperty(name), "a probability in [0, 1)");

    /// <summary>An integer or a list of integers, as a list; empty when absent.</summary>
    public IReadOnlyList<int> Ints(string name)
    {
        if (!TryGet(name, out JsonElement value))
        {
            return [];
        }

        return value.ValueKind == JsonValueKind.Array
            ? IntList(name)!
            : [value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int one) ? one : throw Wrong(name, value, "an integer or a list of integers")];
    }

    /// <summary>A list of integers, or null.</summary>
    public IReadOnlyList<int>? IntList(string name)
    {
        if (!TryGet(name, out JsonElement value))
        {
            return null;
        }

        Refuse(value.ValueKind != JsonValueKind.Array, name, "a list of integers");
        int[] list = new int[value.GetArrayLength()];
        int i = 0;
        foreach (JsonElement item in value.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.Number || !item.TryGetInt32(out list[i]))
            {
                throw Wrong($"{name}[{i}]", item, "an integer");
            }

            i++;
        }

        return list;
    }

    /// <summary>A list of objects, read one by one, or null.</summary>
    public IEnumerable<JsonFields>? Objects(string name)
    {
        if (!TryGet(name, out JsonElement value))
        {
            return null;
        }

        Refuse(value.ValueKind != JsonValueKind.Array, name, "a list of objects");
        return value.EnumerateArray().Select((item, i) => item.ValueKind == JsonValueKind.Object
            ? new JsonFields(File, $"{_prefix}{name}[{i}].", item, default)
            : throw Wrong($"{name}[{i}]", item, "an object"));
    }

    /// <summary>A list of strings, or null.</summary>
    public IReadOnlyList<string>? Strings(string name)
    {
        if (!TryGet(name, out JsonElement value))
        {
            return null;
        }

        if (value.ValueKind != JsonValueKind.Array || value.EnumerateArray().Any(item => item.ValueKind != JsonValueKind.String))
        {
            throw Wrong(name, value, "a list of strings");
        }

        return [.. value.EnumerateArray().Select(item => Text(name, item))];
    }

    /// <summary>The text of a string value, which need not be this object's own field.</summary>
    /// <param name="name">What messages call it.</param>
    /// <param name="value">A value of kind string.</param>
    public string Text(string name, JsonElement value)
    {
        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException error)
        {
            throw new EngineDataException($"{File}: {_prefix}{name} holds an escape that is no Unicode character", error);
        }
    }

    /// <summary>The error for a field whose value is wrong.</summary>
    public EngineDataException Wrong(string name, string right) =>
        TryGet(name, out JsonElement value) ? Wrong(name, value, right) : Missing(name, right);

    /// <summary>The error for a field that must be there.</summary>
    public EngineDataException Missing(string name, string right) =>
        new($"{File}: {_prefix}{name} is missing; {right} is needed");

    /// <summary>An error about the file that is not about one value.</summary>
    public EngineDataException Error(string message) => new($"{File}: {message}");

    /// <summary>Throws <see cref="Wrong(string, string)"/> when <paramref name="bad"/>.</summary>
    public void Refuse([DoesNotReturnIf(true)] bool bad, string name, string right)
    {
        if (bad)
        {
            throw Wrong(name, right);
        }
    }

    private EngineDataException Wrong(string name, JsonElement value, string right) =>
        new($"{File}: {_prefix}{name} is {ErrorText.Clip(value.GetRawText())}; {right} is needed");
}
