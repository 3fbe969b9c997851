namespace Engine.Cli.Demo;

/// <summary>
/// The layout of every prompt, in the base corpus and in the tasks. The one definition: schema, question, and the tag
/// of the language to answer in, each on its line; the answer is what follows the last line break.
/// <code>
/// films(title, director, year)
/// what is the highest year when director is nolan?
/// sql:
/// </code>
/// </summary>
internal static class PromptRenderer
{
    /// <summary>Renders a prompt; it ends with a line break.</summary>
    /// <param name="table">The table's name.</param>
    /// <param name="header">The table's column names.</param>
    /// <param name="question">The question.</param>
    /// <param name="tag">The language to answer in.</param>
    public static string Render(string table, IReadOnlyList<string> header, string question, string tag) =>
        $"{table}({string.Join(", ", header)})\n{question}\n{tag}:\n";

    /// <summary>Renders the prompt of a question; it ends with a line break.</summary>
    /// <param name="question">The question and its table.</param>
    /// <param name="tag">The language to answer in.</param>
    public static string Render(TableQuestion question, string tag) =>
        Render(question.Table.Name, question.Table.Header, question.Question, tag);
}

/// <summary>WikiSQL's canonical SQL: <c>SELECT MAX(rating) FROM films WHERE director = 'nolan' AND year > 1990</c>.</summary>
internal static class SqlRenderer
{
    private static readonly string[] s_aggregates = ["", "MAX", "MIN", "COUNT", "SUM", "AVG"];
    private static readonly string[] s_comparisons = ["=", ">", "<"];

    /// <summary>Renders a query. Text values stand in single quotes, doubled inside; numbers are bare.</summary>
    /// <param name="table">The table.</param>
    /// <param name="query">The query.</param>
    public static string Render(DataTable table, TableQuery query)
    {
        string column = table.Header[query.Column];
        string selected = query.Aggregate == Aggregate.None ? column : $"{s_aggregates[(int)query.Aggregate]}({column})";
        string conditions = string.Join(" AND ", query.Conditions.Select(condition =>
            $"{table.Header[condition.Column]} {s_comparisons[(int)condition.Comparison]} {Literal(condition.Value)}"));
        return $"SELECT {selected} FROM {table.Name}{(conditions.Length > 0 ? " WHERE " : "")}{conditions}";
    }

    private static string Literal(CellValue value) =>
        value.IsNumber ? value.Text : $"'{value.Text.Replace("'", "''", StringComparison.Ordinal)}'";
}

/// <summary>
/// Canonical pandas, the table being the data frame: <c>films[films['director']=='nolan']['rating'].max()</c>; two
/// conditions <c>films[(films['director']=='nolan')&amp;(films['year']>1990)]['rating'].max()</c>; no aggregate
/// <c>.tolist()</c>.
/// </summary>
internal static class PandasRenderer
{
    private static readonly string[] s_methods = ["tolist", "max", "min", "count", "sum", "mean"];
    private static readonly string[] s_comparisons = ["==", ">", "<"];

    /// <summary>Renders a query. Text values stand in single quotes, escaped by a backslash; numbers are bare.</summary>
    /// <param name="table">The table.</param>
    /// <param name="query">The query.</param>
    public static string Render(DataTable table, TableQuery query)
    {
        string[] tests = [.. query.Conditions.Select(condition =>
            $"{table.Name}[{Text(table.Header[condition.Column])}]{s_comparisons[(int)condition.Comparison]}{Literal(condition.Value)}")];
        string filter = tests.Length switch
        {
            0 => "",
            1 => $"[{tests[0]}]",
            _ => $"[({string.Join(")&(", tests)})]",
        };
        return $"{table.Name}{filter}[{Text(table.Header[query.Column])}].{s_methods[(int)query.Aggregate]}()";
    }

    private static string Literal(CellValue value) => value.IsNumber ? value.Text : Text(value.Text);

    private static string Text(string text) =>
        $"'{text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("'", "\\'", StringComparison.Ordinal)}'";
}
