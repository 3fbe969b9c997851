using System.Text.RegularExpressions;
using Engine.Cli.Demo;

namespace Engine.Cli.Tests.Demo;

/// <summary>The base corpus: reproducible, free of the tasks' languages, words and numbers.</summary>
public sealed partial class BaseCorpusTests
{
    private const ulong Seed = 1;
    private const int Checked = 20_000;

    [Fact]
    public void A_document_depends_on_seed_and_index_alone()
    {
        string[] straight = [.. BaseCorpus.Documents(Seed, 0, 300).Select(document => document.Text)];
        string[] resumed = [.. BaseCorpus.Documents(Seed, 120, 180).Select(document => document.Text)];
        Assert.Equal(straight[120..], resumed);
        Assert.Equal(straight[7], BaseCorpus.Document(Seed, 7).Text);
        Assert.NotEqual(straight[7], BaseCorpus.Document(Seed + 1, 7).Text);

        // Fresh text does not run out: far-away documents exist and nearly all documents differ.
        Assert.NotEqual("", BaseCorpus.Document(Seed, long.MaxValue / 2).Text);
        Assert.True(straight.Distinct().Count() > 290);
        Assert.Throws<ArgumentOutOfRangeException>(() => BaseCorpus.Document(Seed, -1));
    }

    [Fact]
    public void The_text_holds_no_sql_and_no_pandas()
    {
        string text = string.Concat(BaseCorpus.Documents(Seed, 0, Checked).Select(document => document.Text + "\n\n"));
        foreach (string word in new[] { "SELECT", "FROM", "WHERE", "sql", "pandas", "df[", "['", "']", ".tolist", ".max()", ".min()", ".count()", ".sum()", ".mean()" })
        {
            Assert.DoesNotContain(word, text, StringComparison.Ordinal);
        }

        // "select … from" in small letters would be SQL as well.
        Assert.DoesNotMatch(SmallSql(), text);
    }

    [Fact]
    public void Every_language_and_exercise_occurs_about_equally_often()
    {
        string[] tags = [.. PlanLanguages.Whole.Concat(PlanLanguages.Parts).Select(language => language.Tag)];
        Assert.Equal(tags.Length, tags.Distinct().Count());
        Assert.True(PlanLanguages.Whole.Count >= 8);

        var seen = new Dictionary<string, int>();
        foreach (BaseDocument document in BaseCorpus.Documents(Seed, 0, Checked))
        {
            string last = document.Prompt.TrimEnd('\n').Split('\n')[^1];
            seen[last] = seen.GetValueOrDefault(last) + 1;
        }

        // Expected 20,000 × 66 / 100 / 16 = 825 and 20,000 × 14 / 100 / 11 = 254; ten standard deviations of the
        // smaller count are 160.
        Assert.All(PlanLanguages.Whole, language => Assert.InRange(seen[language.Tag + ":"], 825 - 290, 825 + 290));
        Assert.All(PlanLanguages.Parts, language => Assert.InRange(seen[language.Tag + ":"], 254 - 160, 254 + 160));
    }

    [Fact]
    public void Nothing_of_the_tasks_schemas_and_values_occurs_in_the_text()
    {
        HashSet<string> tasks = [.. AllTaskWords()];
        HashSet<string> text = [];
        foreach (BaseDocument document in BaseCorpus.Documents(Seed, 0, Checked))
        {
            text.UnionWith(WordsAndNumbers().Matches(document.Text).Select(match => match.Value));
        }

        Assert.True(tasks.Count > 1000);
        Assert.Empty(tasks.Intersect(text));
    }

    [Fact]
    public void Completions_are_not_empty_and_texts_are_plain()
    {
        Assert.All(BaseCorpus.Documents(Seed, 0, 2000), document =>
        {
            Assert.NotEqual("", document.Prompt);
            Assert.NotEqual("", document.Completion);
            Assert.All(document.Text, c => Assert.True(c is '\n' or (>= ' ' and <= '~')));
            Assert.InRange(document.Text.Length, 10, 600);
        });
    }

    [Fact]
    public void The_pretokenizer_pattern_covers_the_text_and_splits_words_alike_everywhere()
    {
        var pattern = new Regex(BaseCorpus.PretokenizerPattern);
        string text = "films[films['director']=='nolan']\n(director, 19874) nolan?";
        string[] pieces = [.. pattern.Matches(text).Select(match => match.Value)];
        Assert.Equal(text, string.Concat(pieces));
        Assert.Equal(2, pieces.Count(piece => piece == "director"));
        Assert.Equal(2, pieces.Count(piece => piece == "nolan"));
        Assert.Equal(["19", "87", "4"], pieces.Where(piece => char.IsAsciiDigit(piece[0])));
        Assert.Contains("\n", pieces);
        Assert.Equal(["[", "[", "'", "'", "]==", "'", "'", "]"], pieces[..Array.IndexOf(pieces, "\n")].Where(piece => !char.IsLetter(piece[0])));
    }

    /// <summary>Every word and number of the schemas, cells and conditions of both tasks' rows.</summary>
    internal static IEnumerable<string> AllTaskWords() =>
        from language in Enum.GetValues<TaskLanguage>()
        from split in Enum.GetValues<Split>()
        from word in TaskWords(language, split)
        select word;

    /// <summary>Every word and number of the schemas, cells and conditions of one file.</summary>
    internal static IEnumerable<string> TaskWords(TaskLanguage language, Split split) =>
        TaskDataFiles.Rows(language, split).SelectMany(row =>
        {
            DataTable table = row.Question.Table;
            IEnumerable<string> texts = table.Header
                .Append(table.Name)
                .Concat(table.Rows.SelectMany(cells => cells).Select(cell => cell.Text))
                .Concat(row.Question.Query.Conditions.Select(condition => condition.Value.Text));
            return texts.SelectMany(text => WordsAndNumbers().Matches(text).Select(match => match.Value));
        });

    [GeneratedRegex(@"[A-Za-z]+|\d+")]
    private static partial Regex WordsAndNumbers();

    [GeneratedRegex(@"select\b.*\bfrom\b")]
    private static partial Regex SmallSql();
}
