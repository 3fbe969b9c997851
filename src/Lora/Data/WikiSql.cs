using System.Text;
using System.Text.Json;
using Engine.Transformer;

namespace Engine.Lora.Data;

/// <summary>
/// WikiSQL rows as text. The prompt is three lines: <c>name(column, column)</c>, the question, and the wanted language with a
/// colon (<c>sql:</c>); the completion is the query as SQL. A row may ask for another language: its field <c>language</c>
/// names it and its field <c>answer</c> holds the completion.
/// </summary>
public static class WikiSql
{
    private static readonly string[] s_aggregates = ["", "MAX", "MIN", "COUNT", "SUM", "AVG"];
    private static readonly string[] s_operators = ["=", ">", "<"];

    /// <summary>The prompt of a question about a table, to be answered in a language.</summary>
    public static string Prompt(WikiSqlTable table, string question, string language = "sql")
    {
        ArgumentNullException.ThrowIfNull(table);
        return $"{table.Name}({string.Join(", ", table.Columns)})\n{question}\n{language}:\n";
    }

    internal static DataRow Row(JsonFields fields, IReadOnlyDictionary<string, WikiSqlTable> tables)
    {
        string id = fields.String("table_id") ?? throw fields.Missing("table_id", "a string");
        string question = fields.String("question") ?? throw fields.Missing("question", "a string");
        if (!tables.TryGetValue(id, out WikiSqlTable? table))
        {
            throw fields.Wrong("table_id", "the id of a table in the .tables.jsonl file");
        }

        string answer = fields.String("answer") ?? Sql(fields.Object("sql") ?? throw fields.Missing("sql", "an object with sel, agg and conds"), table);
        return new DataRow
        {
            Source = fields.File,
            Segments = [new(Prompt(table, question, fields.String("language") ?? "sql"), IsCompletion: false), new(answer, IsCompletion: true)],
        };
    }

    // SELECT MAX(col) FROM name WHERE c = 'v' AND d > 3
    private static string Sql(JsonFields sql, WikiSqlTable table)
    {
        string column = Column(sql, "sel", sql.Int("sel", 0) ?? throw sql.Missing("sel", "a column's index"), table);
        int aggregate = sql.Int("agg", 0) ?? 0;
        sql.Refuse(aggregate >= s_aggregates.Length, "agg", $"an index below {s_aggregates.Length}");
        var text = new StringBuilder("SELECT ");
        text.Append(aggregate == 0 ? column : $"{s_aggregates[aggregate]}({column})").Append(" FROM ").Append(Identifier(table.Name));
        if (!sql.TryGet("conds", out JsonElement conditions))
        {
            return text.ToString();
        }

        sql.Refuse(conditions.ValueKind != JsonValueKind.Array, "conds", "a list of [column, operator, value]");
        string join = " WHERE ";
        foreach (JsonElement condition in conditions.EnumerateArray())
        {
            text.Append(join).Append(Condition(sql, condition, table));
            join = " AND ";
        }

        return text.ToString();
    }

    private static string Condition(JsonFields sql, JsonElement condition, WikiSqlTable table)
    {
        if (condition.ValueKind != JsonValueKind.Array || condition.GetArrayLength() != 3
            || condition[0].ValueKind != JsonValueKind.Number || !condition[0].TryGetInt32(out int column)
            || condition[1].ValueKind != JsonValueKind.Number || !condition[1].TryGetInt32(out int comparison)
            || comparison < 0 || comparison >= s_operators.Length
            || condition[2].ValueKind is not (JsonValueKind.String or JsonValueKind.Number))
        {
            throw sql.Wrong("conds", "a list of [column index, operator 0 to 2, string or number]");
        }

        string value = condition[2].ValueKind == JsonValueKind.Number
            ? condition[2].GetRawText()
            : $"'{sql.Text("conds", condition[2]).Replace("'", "''", StringComparison.Ordinal)}'";
        return $"{Column(sql, "conds", column, table)} {s_operators[comparison]} {value}";
    }

    private static string Column(JsonFields sql, string field, int index, WikiSqlTable table) =>
        (uint)index < (uint)table.Columns.Count
            ? Identifier(table.Columns[index])
            : throw sql.Wrong(field, $"a column index below {table.Columns.Count}, the columns of table {ErrorText.Quote(table.Id)}");

    // Names that are no plain identifiers ("Years in Toronto") are quoted as SQL does.
    private static string Identifier(string name)
    {
        bool plain = name.Length > 0 && !char.IsAsciiDigit(name[0]) && name.All(c => char.IsAsciiLetterOrDigit(c) || c == '_');
        return plain ? name : $"\"{name.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
    }
}
