namespace Engine.Cli.Demo;

/// <summary>The languages of the demo's two tasks.</summary>
internal enum TaskLanguage
{
    /// <summary>Questions answered in SQL.</summary>
    Sql,

    /// <summary>Questions answered in pandas.</summary>
    Pandas,
}

/// <summary>The parts of a task's data.</summary>
internal enum Split
{
    /// <summary>What the adapter is trained on.</summary>
    Train,

    /// <summary>What it is measured on: other tables, other columns, other values.</summary>
    HeldOut,
}

/// <summary>One row of a task.</summary>
/// <param name="Question">The question, its table and its query.</param>
/// <param name="Prompt">What the model is given.</param>
/// <param name="Answer">What it has to write, to the character.</param>
internal sealed record TaskRow(TableQuestion Question, string Prompt, string Answer);

/// <summary>
/// Generates the tasks' rows. Rows of <see cref="Split.Train"/> use only words and numbers of <see cref="Pool.Train"/>,
/// those of <see cref="Split.HeldOut"/> only those of <see cref="Pool.HeldOut"/>. Row <c>i</c> depends on the language,
/// the split, the seed and <c>i</c> alone.
/// </summary>
internal static class TaskData
{
    /// <summary>How many consecutive rows ask about the same table.</summary>
    public const int QuestionsPerTable = 3;

    private const int RowsPerTable = 3;

    /// <summary>The tag that announces a language in the prompt.</summary>
    /// <param name="language">The language.</param>
    public static string Tag(TaskLanguage language) => language == TaskLanguage.Sql ? "sql" : "pandas";

    /// <summary>The answer to a question in a language.</summary>
    /// <param name="language">The language.</param>
    /// <param name="question">The question.</param>
    public static string Answer(TaskLanguage language, TableQuestion question) => language == TaskLanguage.Sql
        ? SqlRenderer.Render(question.Table, question.Query)
        : PandasRenderer.Render(question.Table, question.Query);

    /// <summary>Generates rows; no question is asked twice of one table.</summary>
    /// <param name="language">The task's language.</param>
    /// <param name="split">Which part of its data.</param>
    /// <param name="count">How many rows.</param>
    /// <param name="seed">The data set's seed.</param>
    public static IReadOnlyList<TaskRow> Generate(TaskLanguage language, Split split, int count, ulong seed)
    {
        Pool pool = split == Split.Train ? Pool.Train : Pool.HeldOut;
        string name = $"{Tag(language)}-{(split == Split.Train ? "train" : "heldout")}";

        // Its own stream for each data set: the two tasks ask different questions about different tables.
        ulong stream = (seed * 4) + ((ulong)language * 2) + (ulong)split;
        var rows = new List<TaskRow>(count);
        for (int table = 0; rows.Count < count; table++)
        {
            var sampler = new QuestionSampler(new SplitMix(stream, (ulong)table), pool);
            DataTable drawn = sampler.Table($"{name}-{table + 1}", RowsPerTable);
            var asked = new HashSet<string>();
            while (asked.Count < QuestionsPerTable && rows.Count < count)
            {
                TableQuestion question = sampler.Question(drawn);
                if (asked.Add(question.Question))
                {
                    rows.Add(new TaskRow(question, PromptRenderer.Render(question, Tag(language)), Answer(language, question)));
                }
            }
        }

        return rows;
    }
}
