using System.Globalization;

namespace Engine.Cli.Demo;

/// <summary>WikiSQL's aggregates, numbered as in its files (<c>agg</c>).</summary>
internal enum Aggregate
{
    /// <summary>The column itself.</summary>
    None,

    /// <summary>Largest value.</summary>
    Max,

    /// <summary>Smallest value.</summary>
    Min,

    /// <summary>How many values.</summary>
    Count,

    /// <summary>Sum of the values.</summary>
    Sum,

    /// <summary>Arithmetic mean of the values.</summary>
    Avg,
}

/// <summary>WikiSQL's condition operators, numbered as in its files.</summary>
internal enum Comparison
{
    /// <summary>Equal.</summary>
    Equal,

    /// <summary>Greater than.</summary>
    Greater,

    /// <summary>Less than.</summary>
    Less,
}

/// <summary>A cell or a condition's value: text, or a whole number.</summary>
/// <param name="Text">The value as it is written in the question.</param>
/// <param name="IsNumber">Whether it is a number.</param>
internal readonly record struct CellValue(string Text, bool IsNumber)
{
    /// <summary>A text value.</summary>
    /// <param name="text">The text.</param>
    public static CellValue Of(string text) => new(text, false);

    /// <summary>A number.</summary>
    /// <param name="number">The number.</param>
    public static CellValue Of(int number) => new(number.ToString(CultureInfo.InvariantCulture), true);

    /// <summary>The number.</summary>
    /// <exception cref="FormatException">The value is text.</exception>
    public int Number => int.Parse(Text, CultureInfo.InvariantCulture);

    /// <summary>The value, between <paramref name="quote"/>s when it is text.</summary>
    /// <param name="quote">The quotation mark.</param>
    public string Quoted(char quote) => IsNumber ? Text : $"{quote}{Text}{quote}";
}

/// <summary>A table: name, columns, some rows.</summary>
/// <param name="Id">WikiSQL's table identifier.</param>
/// <param name="Name">The table's name.</param>
/// <param name="Header">Column names.</param>
/// <param name="IsReal">For each column, whether it holds numbers (WikiSQL's type <c>real</c>) or <c>text</c>.</param>
/// <param name="Rows">Rows of cells, in the header's order.</param>
internal sealed record DataTable(
    string Id,
    string Name,
    IReadOnlyList<string> Header,
    IReadOnlyList<bool> IsReal,
    IReadOnlyList<IReadOnlyList<CellValue>> Rows);

/// <summary>One condition of a query.</summary>
/// <param name="Column">Index into the table's header.</param>
/// <param name="Comparison">The operator.</param>
/// <param name="Value">The value compared with.</param>
internal readonly record struct Condition(int Column, Comparison Comparison, CellValue Value);

/// <summary>WikiSQL's query: one column, one aggregate, conditions joined by "and".</summary>
/// <param name="Column">Index of the column asked for.</param>
/// <param name="Aggregate">What is done with the column.</param>
/// <param name="Conditions">The conditions, in the order of the question.</param>
internal sealed record TableQuery(int Column, Aggregate Aggregate, IReadOnlyList<Condition> Conditions);

/// <summary>A question over a table, with the query that answers it.</summary>
/// <param name="Table">The table.</param>
/// <param name="Query">The query.</param>
/// <param name="Question">The question in words.</param>
internal sealed record TableQuestion(DataTable Table, TableQuery Query, string Question);
