using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora.Data;

/// <summary>A table's schema in WikiSQL's form; its rows are not needed for training and are not kept.</summary>
/// <param name="Id">The id that questions refer to.</param>
/// <param name="Name">The table's name; <c>table</c> when the file gives none.</param>
/// <param name="Columns">The header: the names of the columns.</param>
public sealed record WikiSqlTable(string Id, string Name, IReadOnlyList<string> Columns);

/// <summary>Reads <c>NAME.tables.jsonl</c>: <c>{"id", "header", "types", "rows", …}</c>, one table a line.</summary>
public static class WikiSqlTables
{
    /// <summary><c>dir/dev.jsonl</c> → <c>dir/dev.tables.jsonl</c>.</summary>
    public static string PathFor(string data) => Path.ChangeExtension(data, ".tables.jsonl");

    /// <summary>Reads a file's tables by id.</summary>
    /// <exception cref="EngineDataException">The file is missing, empty or malformed.</exception>
    public static IReadOnlyDictionary<string, WikiSqlTable> Load(string path) => Files.Read(path, stream => Parse(stream, path));

    /// <summary>Reads tables by id from a stream that messages call <paramref name="name"/>.</summary>
    /// <exception cref="EngineDataException">The content is empty or malformed.</exception>
    public static IReadOnlyDictionary<string, WikiSqlTable> Parse(Stream stream, string name)
    {
        var tables = new Dictionary<string, WikiSqlTable>(StringComparer.Ordinal);
        var lines = new LineReader(stream, name);
        while (lines.TryNext(out ReadOnlyMemory<byte> line))
        {
            JsonFields fields = JsonFields.Parse(line, $"{name}:{lines.Number}");
            string id = fields.String("id") ?? throw fields.Missing("id", "a string");
            IReadOnlyList<string> header = fields.Strings("header") ?? throw fields.Missing("header", "a list of strings");
            if (!tables.TryAdd(id, new WikiSqlTable(id, fields.String("name") ?? "table", header)))
            {
                throw fields.Wrong("id", "an id that no earlier table has");
            }
        }

        return tables.Count > 0 ? tables : throw new EngineDataException($"{name}: the file has no tables; one JSON object a line is needed");
    }
}
