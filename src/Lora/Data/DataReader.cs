using Engine.Tensors;
using Engine.Transformer;

namespace Engine.Lora.Data;

/// <summary>
/// Reads training and evaluation data: one JSON object a line, in one of the formats of <see cref="DataFormat"/>, told
/// from the first line. Blank lines are passed over; fields beyond the format's are ignored.
/// </summary>
public static class DataReader
{
    private const string Formats =
        "{\"prompt\",\"completion\"}, {\"text\"}, {\"messages\"}, {\"input_ids\",\"labels\"} or WikiSQL's {\"table_id\",\"question\",\"sql\"}";

    /// <summary>Reads a file.</summary>
    /// <param name="path">The file; for WikiSQL, <c>NAME.tables.jsonl</c> stands beside <c>NAME.jsonl</c>.</param>
    /// <param name="chat">How <c>messages</c> become text; ChatML by default.</param>
    /// <exception cref="EngineDataException">
    /// The file is missing, empty or malformed; the message names file, line, field, value and what would be right.
    /// </exception>
    public static DataSet Load(string path, IChatFormat? chat = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        return Files.Read(path, stream => Parse(stream, path, chat, () => WikiSqlTables.Load(WikiSqlTables.PathFor(path))));
    }

    /// <summary>Reads from a stream.</summary>
    /// <param name="stream">UTF-8 lines.</param>
    /// <param name="name">What messages call the file.</param>
    /// <param name="chat">How <c>messages</c> become text; ChatML by default.</param>
    /// <param name="tables">Gives WikiSQL's tables by id, when they are needed; without it WikiSQL is refused.</param>
    /// <exception cref="EngineDataException">The content is empty or malformed.</exception>
    public static DataSet Parse(
        Stream stream, string name, IChatFormat? chat = null, Func<IReadOnlyDictionary<string, WikiSqlTable>>? tables = null)
    {
        ArgumentNullException.ThrowIfNull(stream);
        var lines = new LineReader(stream, name);
        var rows = new List<DataRow>();
        DataFormat format = default;
        IReadOnlyDictionary<string, WikiSqlTable>? known = null;
        while (lines.TryNext(out ReadOnlyMemory<byte> line))
        {
            JsonFields fields = JsonFields.Parse(line, $"{name}:{lines.Number}");
            if (rows.Count == 0)
            {
                format = Detect(fields);
                if (format == DataFormat.WikiSql)
                {
                    known = tables?.Invoke() ?? throw fields.Error("WikiSQL rows need their tables");
                }
            }

            rows.Add(format switch
            {
                DataFormat.PromptCompletion => PromptCompletion(fields),
                DataFormat.Text => PlainText(fields),
                DataFormat.Messages => Messages(fields, chat ?? ChatFormat.ChatMl),
                DataFormat.TokenIds => TokenIds(fields),
                _ => WikiSql.Row(fields, known!),
            });
        }

        return rows.Count > 0
            ? new DataSet(name, format, rows)
            : throw new EngineDataException($"{name}: the file has no rows; one JSON object a line is needed: {Formats}");
    }

    private static DataFormat Detect(JsonFields fields)
    {
        DataFormat? found = null;
        foreach ((string field, DataFormat format) in (ReadOnlySpan<(string, DataFormat)>)
            [
                ("prompt", DataFormat.PromptCompletion),
                ("completion", DataFormat.PromptCompletion),
                ("text", DataFormat.Text),
                ("messages", DataFormat.Messages),
                ("input_ids", DataFormat.TokenIds),
                ("table_id", DataFormat.WikiSql),
            ])
        {
            if (!fields.IsPresent(field))
            {
                continue;
            }

            if (found is not null && found != format)
            {
                throw fields.Error($"the row has fields of two formats, {found} and {format}; use one of {Formats}");
            }

            found = format;
        }

        return found ?? throw fields.Error($"the row has none of the known formats; use one of {Formats}");
    }

    private static string Text(JsonFields fields, string name) => fields.String(name) ?? throw fields.Missing(name, "a string");

    private static DataRow PromptCompletion(JsonFields fields) => new()
    {
        Source = fields.File,
        Segments = [new(Text(fields, "prompt"), IsCompletion: false), new(Text(fields, "completion"), IsCompletion: true)],
    };

    private static DataRow PlainText(JsonFields fields) => new()
    {
        Source = fields.File,
        Segments = [new(Text(fields, "text"), IsCompletion: true)],
    };

    private static DataRow Messages(JsonFields fields, IChatFormat chat)
    {
        var turns = new List<(string Role, string Content)>();
        foreach (JsonFields message in fields.Objects("messages") ?? throw fields.Missing("messages", "a list of {role, content}"))
        {
            string role = Text(message, "role");
            message.Refuse(role is not ("system" or "user" or "assistant" or "tool"), "role", "system, user, assistant or tool");
            turns.Add((role, Text(message, "content")));
        }

        if (!turns.Exists(turn => turn.Role == "assistant"))
        {
            throw fields.Error("messages has no turn of the assistant, so there is nothing to learn");
        }

        try
        {
            return new DataRow { Source = fields.File, Segments = chat.Render(turns) };
        }
        catch (EngineDataException error)
        {
            throw new EngineDataException($"{fields.File}: {error.Message}", error);
        }
    }

    private static DataRow TokenIds(JsonFields fields)
    {
        IReadOnlyList<int> ids = fields.IntList("input_ids") ?? throw fields.Missing("input_ids", "a list of token ids");
        IReadOnlyList<int> labels = fields.IntList("labels") ?? ids;
        return labels.Count == ids.Count
            ? new DataRow { Source = fields.File, InputIds = ids, Labels = labels }
            : throw fields.Error($"labels has {labels.Count} entries and input_ids {ids.Count}; one label a token is needed");
    }
}
