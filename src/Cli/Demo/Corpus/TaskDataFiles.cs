using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Engine.Cli.Demo;

/// <summary>
/// The data sets that ship with the demo, in WikiSQL's format: <c>NAME.jsonl</c> holds a question a line (<c>phase</c>,
/// <c>table_id</c>, <c>question</c>, <c>sql</c> with <c>sel</c>, <c>agg</c>, <c>conds</c>), <c>NAME.tables.jsonl</c> a
/// table a line (<c>id</c>, <c>name</c>, <c>header</c>, <c>types</c>, <c>rows</c>). Questions answered in pandas carry
/// two fields more, <c>language</c> and <c>answer</c>. The committed files are what <see cref="Questions"/> and <see cref="Tables"/> return.
/// </summary>
internal static class TaskDataFiles
{
    /// <summary>Rows in a training file.</summary>
    public const int TrainRows = 2400;

    /// <summary>Rows in a held-out file.</summary>
    public const int HeldOutRows = 200;

    /// <summary>The seed of the committed files.</summary>
    public const ulong Seed = 20_261;

    private static readonly JsonWriterOptions s_json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The rows of a committed data set.</summary>
    /// <param name="language">The task's language.</param>
    /// <param name="split">Which part of its data.</param>
    public static IReadOnlyList<TaskRow> Rows(TaskLanguage language, Split split) =>
        TaskData.Generate(language, split, split == Split.Train ? TrainRows : HeldOutRows, Seed);

    /// <summary>The name of a data set's file, without extension, relative to the data directory.</summary>
    /// <param name="language">The task's language.</param>
    /// <param name="split">Which part of its data.</param>
    public static string Name(TaskLanguage language, Split split) =>
        $"{TaskData.Tag(language)}/{(split == Split.Train ? "train" : "heldout")}";

    /// <summary>The contents of the questions' file, UTF-8 with a line break after each line.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="language">The task's language.</param>
    public static byte[] Questions(IEnumerable<TaskRow> rows, TaskLanguage language) => Lines(rows, (json, row) =>
    {
        TableQuery query = row.Question.Query;
        json.WriteNumber("phase", 1);
        json.WriteString("table_id", row.Question.Table.Id);
        json.WriteString("question", row.Question.Question);
        json.WriteStartObject("sql");
        json.WriteNumber("sel", query.Column);
        json.WriteNumber("agg", (int)query.Aggregate);
        json.WriteStartArray("conds");
        foreach (Condition condition in query.Conditions)
        {
            json.WriteStartArray();
            json.WriteNumberValue(condition.Column);
            json.WriteNumberValue((int)condition.Comparison);
            WriteCell(json, condition.Value);
            json.WriteEndArray();
        }

        json.WriteEndArray();
        json.WriteEndObject();
        if (language != TaskLanguage.Sql)
        {
            json.WriteString("language", TaskData.Tag(language));
            json.WriteString("answer", row.Answer);
        }
    });

    /// <summary>The contents of the tables' file, UTF-8 with a line break after each line.</summary>
    /// <param name="rows">The rows whose tables are written, each table once.</param>
    public static byte[] Tables(IEnumerable<TaskRow> rows) =>
        Lines(rows.Select(row => row.Question.Table).DistinctBy(table => table.Id), (json, table) =>
        {
            json.WriteString("id", table.Id);
            json.WriteString("name", table.Name);
            WriteStrings(json, "header", table.Header);
            WriteStrings(json, "types", table.IsReal.Select(real => real ? "real" : "text"));
            json.WriteStartArray("rows");
            foreach (IReadOnlyList<CellValue> cells in table.Rows)
            {
                json.WriteStartArray();
                foreach (CellValue cell in cells)
                {
                    WriteCell(json, cell);
                }

                json.WriteEndArray();
            }

            json.WriteEndArray();
        });

    private static byte[] Lines<T>(IEnumerable<T> items, Action<Utf8JsonWriter, T> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using var json = new Utf8JsonWriter(buffer, s_json);
        foreach (T item in items)
        {
            json.WriteStartObject();
            write(json, item);
            json.WriteEndObject();
            json.Flush();
            json.Reset();
            buffer.Write("\n"u8);
        }

        return buffer.WrittenSpan.ToArray();
    }

    private static void WriteStrings(Utf8JsonWriter json, string name, IEnumerable<string> texts)
    {
        json.WriteStartArray(name);
        foreach (string text in texts)
        {
            json.WriteStringValue(text);
        }

        json.WriteEndArray();
    }

    private static void WriteCell(Utf8JsonWriter json, CellValue cell)
    {
        if (cell.IsNumber)
        {
            json.WriteNumberValue(cell.Number);
        }
        else
        {
            json.WriteStringValue(cell.Text);
        }
    }
}
