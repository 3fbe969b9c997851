namespace Engine.Lora.Data;

/// <summary>What the lines of a data file hold.</summary>
public enum DataFormat
{
    /// <summary><c>{"prompt": text, "completion": text}</c>.</summary>
    PromptCompletion,

    /// <summary><c>{"text": text}</c>, learned as a whole.</summary>
    Text,

    /// <summary><c>{"messages": [{"role": …, "content": text}, …]}</c>; what the assistant says is learned.</summary>
    Messages,

    /// <summary><c>{"input_ids": [ids], "labels": [ids or −100]}</c>; labels may be absent, then all is learned.</summary>
    TokenIds,

    /// <summary>
    /// WikiSQL (arXiv:1709.00103): <c>{"table_id", "question", "sql": {"sel", "agg", "conds"}}</c> with the tables in
    /// <c>NAME.tables.jsonl</c> beside <c>NAME.jsonl</c>.
    /// </summary>
    WikiSql,
}

/// <summary>The rows of one data file.</summary>
/// <param name="Path">The file.</param>
/// <param name="Format">The format its first line has, and all others with it.</param>
/// <param name="Rows">The rows in the file's order; at least one.</param>
public sealed record DataSet(string Path, DataFormat Format, IReadOnlyList<DataRow> Rows);
