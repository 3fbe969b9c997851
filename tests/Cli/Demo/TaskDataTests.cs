using System.Text;
using System.Text.Json;
using Engine.Cli.Demo;

namespace Engine.Cli.Tests.Demo;

/// <summary>The tasks' rows: reproduced by the generator, disjoint between the splits, balanced and right.</summary>
public sealed class TaskDataTests
{
    public static TheoryData<string> Files => ["sql/train", "sql/heldout", "pandas/train", "pandas/heldout"];

    [Theory]
    [MemberData(nameof(Files))]
    public void The_generator_reproduces_the_committed_files(string name)
    {
        (TaskLanguage language, Split split) = Parse(name);
        IReadOnlyList<TaskRow> rows = TaskDataFiles.Rows(language, split);
        Assert.Equal(name, TaskDataFiles.Name(language, split));
        Assert.Equal(Resource($"{name}.jsonl"), TaskDataFiles.Questions(rows, language));
        Assert.Equal(Resource($"{name}.tables.jsonl"), TaskDataFiles.Tables(rows));
    }

    [Fact]
    public void The_files_are_small()
    {
        int bytes = Files.Sum(row => Resource($"{row.Data}.jsonl").Length + Resource($"{row.Data}.tables.jsonl").Length);
        Assert.InRange(bytes, 500_000, 1_600_000);
    }

    [Fact]
    public void The_pools_are_disjoint()
    {
        foreach (TaskLanguage language in Enum.GetValues<TaskLanguage>())
        {
            HashSet<string> heldOut = [.. BaseCorpusTests.TaskWords(language, Split.HeldOut)];
            HashSet<string> train = [.. BaseCorpusTests.TaskWords(TaskLanguage.Sql, Split.Train), .. BaseCorpusTests.TaskWords(TaskLanguage.Pandas, Split.Train)];
            Assert.Empty(heldOut.Intersect(train));
            Assert.All(heldOut, word => Assert.Equal(Pool.HeldOut, WordPools.PoolOf(word)));
            Assert.All(train, word => Assert.Equal(Pool.Train, WordPools.PoolOf(word)));
        }

        // A plural belongs to the same pool, and no word of the lists is a word of the question templates.
        Assert.Equal(WordPools.PoolOf("film"), WordPools.PoolOf("films"));
        foreach (Pool pool in Enum.GetValues<Pool>())
        {
            PoolWords words = WordPools.Of(pool);
            Assert.All(
                words.Tables.Concat(words.TextColumns).Concat(words.RealColumns).Concat(words.Values),
                word => Assert.False(QuestionTemplates.Uses(word), word));
            Assert.True(words.Tables.Count > 40 && words.TextColumns.Count > 40 && words.RealColumns.Count > 40 && words.Values.Count > 80);
        }
    }

    [Fact]
    public void The_two_tasks_ask_different_questions()
    {
        foreach (Split split in Enum.GetValues<Split>())
        {
            HashSet<string> sql = [.. TaskDataFiles.Rows(TaskLanguage.Sql, split).Select(Asked)];
            HashSet<string> pandas = [.. TaskDataFiles.Rows(TaskLanguage.Pandas, split).Select(Asked)];
            Assert.Empty(sql.Intersect(pandas));
        }

        static string Asked(TaskRow row) => row.Prompt.Split('\n')[0] + row.Question.Question;
    }

    [Theory]
    [MemberData(nameof(Files))]
    public void Answers_are_balanced(string name)
    {
        (TaskLanguage language, Split split) = Parse(name);
        IReadOnlyList<TaskRow> rows = TaskDataFiles.Rows(language, split);

        // A constant answer, even the most frequent one, is right at most once in a table's questions.
        Assert.True(rows.GroupBy(row => row.Answer).Max(group => group.Count()) <= TaskData.QuestionsPerTable);
        Assert.All(Enum.GetValues<Aggregate>(), aggregate =>
            Assert.InRange(rows.Count(row => row.Question.Query.Aggregate == aggregate), rows.Count / 20, rows.Count / 2));
        Assert.All([0, 1, 2], count =>
            Assert.InRange(rows.Count(row => row.Question.Query.Conditions.Count == count), rows.Count / 20, rows.Count * 6 / 10));
        Assert.All(Enum.GetValues<Comparison>(), comparison =>
            Assert.True(rows.Count(row => row.Question.Query.Conditions.Any(c => c.Comparison == comparison)) > rows.Count / 10));
    }

    [Theory]
    [MemberData(nameof(Files))]
    public void Questions_say_what_the_query_needs_and_the_first_row_satisfies_it(string name)
    {
        (TaskLanguage language, Split split) = Parse(name);
        Assert.All(TaskDataFiles.Rows(language, split), row =>
        {
            (DataTable table, TableQuery query) = (row.Question.Table, row.Question.Query);
            string[] words = row.Question.Question.Split(' ', ',', '?', '.');
            Assert.Contains(table.Header[query.Column], words);
            Assert.True(table.IsReal[query.Column] || query.Aggregate is Aggregate.None or Aggregate.Count);
            foreach (Condition condition in query.Conditions)
            {
                Assert.NotEqual(query.Column, condition.Column);
                Assert.Contains(table.Header[condition.Column], words);
                Assert.Contains(condition.Value.Text, row.Question.Question, StringComparison.Ordinal);
                Assert.Equal(table.IsReal[condition.Column], condition.Value.IsNumber);
                CellValue cell = table.Rows[0][condition.Column];
                Assert.True(condition.Comparison switch
                {
                    Comparison.Equal => cell == condition.Value,
                    Comparison.Greater => cell.Number > condition.Value.Number,
                    _ => cell.Number < condition.Value.Number,
                });
            }
        });
    }

    [Fact]
    public void Answers_are_canonical_sql_and_pandas()
    {
        var table = new DataTable("t", "films", ["title", "director", "year"], [false, false, true], []);
        TableQuery Query(int column, Aggregate aggregate, params Condition[] conditions) => new(column, aggregate, conditions);
        var nolan = new Condition(1, Comparison.Equal, CellValue.Of("nolan"));
        var later = new Condition(2, Comparison.Greater, CellValue.Of(1990));
        var earlier = new Condition(2, Comparison.Less, CellValue.Of(1990));
        var quote = new Condition(1, Comparison.Equal, CellValue.Of("o'hara"));

        Assert.Equal("SELECT title FROM films", SqlRenderer.Render(table, Query(0, Aggregate.None)));
        Assert.Equal("SELECT COUNT(title) FROM films WHERE year < 1990", SqlRenderer.Render(table, Query(0, Aggregate.Count, earlier)));
        Assert.Equal(
            "SELECT MAX(year) FROM films WHERE director = 'nolan' AND year > 1990",
            SqlRenderer.Render(table, Query(2, Aggregate.Max, nolan, later)));
        Assert.Equal("SELECT title FROM films WHERE director = 'o''hara'", SqlRenderer.Render(table, Query(0, Aggregate.None, quote)));

        Assert.Equal("films['title'].tolist()", PandasRenderer.Render(table, Query(0, Aggregate.None)));
        Assert.Equal("films[films['year']<1990]['title'].count()", PandasRenderer.Render(table, Query(0, Aggregate.Count, earlier)));
        Assert.Equal(
            "films[(films['director']=='nolan')&(films['year']>1990)]['year'].mean()",
            PandasRenderer.Render(table, Query(2, Aggregate.Avg, nolan, later)));
        Assert.Equal("films[films['director']=='o\\'hara']['title'].tolist()", PandasRenderer.Render(table, Query(0, Aggregate.None, quote)));

        Assert.Equal(
            "films(title, director, year)\nwhat is the title?\nsql:\n",
            PromptRenderer.Render("films", table.Header, "what is the title?", "sql"));
    }

    [Fact]
    public void The_files_are_wikisqls_format()
    {
        string line = Encoding.UTF8.GetString(Resource("pandas/train.jsonl")).Split('\n')[0];
        using var question = JsonDocument.Parse(line);
        string tableLine = Encoding.UTF8.GetString(Resource("pandas/train.tables.jsonl")).Split('\n')[0];
        using var table = JsonDocument.Parse(tableLine);
        Assert.Equal(table.RootElement.GetProperty("id").GetString(), question.RootElement.GetProperty("table_id").GetString());
        Assert.InRange(question.RootElement.GetProperty("sql").GetProperty("agg").GetInt32(), 0, 5);
        Assert.True(question.RootElement.GetProperty("sql").TryGetProperty("conds", out _));
        Assert.Equal(
            table.RootElement.GetProperty("header").GetArrayLength(),
            table.RootElement.GetProperty("types").GetArrayLength());
        Assert.NotEqual("", question.RootElement.GetProperty("answer").GetString());
    }

    private static (TaskLanguage Language, Split Split) Parse(string name) => (
        name.StartsWith("sql", StringComparison.Ordinal) ? TaskLanguage.Sql : TaskLanguage.Pandas,
        name.EndsWith("train", StringComparison.Ordinal) ? Split.Train : Split.HeldOut);

    private static byte[] Resource(string name)
    {
        using Stream? stream = typeof(TaskDataFiles).Assembly.GetManifestResourceStream($"Demo/Data/{name}");
        Assert.NotNull(stream);
        using var copy = new MemoryStream();
        stream.CopyTo(copy);
        return copy.ToArray();
    }
}
