using System.Text.RegularExpressions;

namespace Engine.Cli.Demo;

/// <summary>
/// Puts a query into words. A question is a lead (6 aggregates, 5 to 8 leads each) and zero to two conditions (3
/// operators, 5 verbal and 3 or 4 nominal wordings each) in one of 6 arrangements: some thousand different templates.
/// As in WikiSQL, columns are called by their names and values are quoted as they stand.
/// <para>
/// The base corpus, the training rows and the held-out rows share these templates: what is held out is the schema and
/// the values. The base model therefore knows how questions are worded; it does not know any language of the tasks.
/// </para>
/// </summary>
internal static partial class QuestionTemplates
{
    // {s} is the column asked for, {t} the table. Indexed by Aggregate.
    private static readonly string[][] s_leads =
    [
        [
            "what is the {s}", "which {s} is it", "what {s} is listed", "name the {s}", "tell me the {s}", "give the {s}",
            "show me the {s}", "find the {s}",
        ],
        [
            "what is the highest {s}", "what is the maximum {s}", "name the largest {s}", "tell me the greatest {s}",
            "find the top {s}", "show me the biggest {s}",
        ],
        [
            "what is the lowest {s}", "what is the minimum {s}", "name the smallest {s}", "tell me the least {s}",
            "find the bottom {s}",
        ],
        [
            "how many {s} entries are there", "what is the number of {s} entries", "count the {s} entries",
            "how many {s} entries can you find", "tell me how many {s} entries exist",
        ],
        [
            "what is the total {s}", "what is the sum of {s}", "add up the {s}", "find the combined {s}", "name the overall {s}",
        ],
        [
            "what is the average {s}", "what is the mean {s}", "find the typical {s}", "tell me the average of {s}",
            "name the usual {s}",
        ],
    ];

    // {k} is a column, {a} its article, {v} a value; a clause, after "when". Indexed by Comparison.
    private static readonly string[][] s_clauses =
    [
        ["{k} is {v}", "the {k} is {v}", "{k} equals {v}", "{k} was {v}", "the {k} is exactly {v}"],
        [
            "{k} is above {v}", "{k} is more than {v}", "the {k} is over {v}", "{k} is greater than {v}", "{k} exceeds {v}",
        ],
        [
            "{k} is below {v}", "{k} is less than {v}", "the {k} is under {v}", "{k} is smaller than {v}", "{k} was less than {v}",
        ],
    ];

    // After "with". Indexed by Comparison.
    private static readonly string[][] s_phrases =
    [
        ["{k} {v}", "{a} {k} of {v}", "{v} as the {k}", "the {k} {v}"],
        ["{a} {k} above {v}", "{k} over {v}", "{a} {k} of more than {v}"],
        ["{a} {k} below {v}", "{k} under {v}", "{a} {k} of less than {v}"],
    ];

    private static readonly HashSet<string> s_words =
    [
        .. s_leads.Concat(s_clauses).Concat(s_phrases).SelectMany(group => group).SelectMany(Words),
        .. Words("a an when where with if for in of the and all"),
    ];

    /// <summary>The words the templates are made of, in the order of the templates.</summary>
    public static IReadOnlyList<string> Vocabulary { get; } = [.. s_words];

    /// <summary>Whether a word belongs to the templates, and so names no column and no value.</summary>
    /// <param name="word">A lower-case word.</param>
    public static bool Uses(string word) => s_words.Contains(word);

    /// <summary>Words a query as a question.</summary>
    /// <param name="random">Chooses the template.</param>
    /// <param name="table">The table asked about.</param>
    /// <param name="query">The query; at most two conditions.</param>
    public static string Ask(SplitMix random, DataTable table, TableQuery query)
    {
        string lead = random.Pick(s_leads[(int)query.Aggregate]).Replace("{s}", table.Header[query.Column], StringComparison.Ordinal);
        bool asksBack = lead.StartsWith("wh", StringComparison.Ordinal) || lead.StartsWith("how", StringComparison.Ordinal);
        char end = asksBack ? '?' : '.';
        if (query.Conditions.Count == 0)
        {
            return random.Next(3) switch
            {
                0 => $"{lead} in {table.Name}{end}",
                1 => $"{lead} of all {table.Name}{end}",
                _ => $"{lead}{end}",
            };
        }

        string clauses = Join(random, table, query, s_clauses);
        string phrases = Join(random, table, query, s_phrases);
        return random.Next(8) switch
        {
            0 or 1 => $"{lead} when {clauses}{end}",
            2 => $"{lead} where {clauses}{end}",
            3 => $"{lead} if {clauses}{end}",
            4 => $"{lead} with {phrases}{end}",
            5 => $"{lead} for {table.Name} with {phrases}{end}",
            6 => $"when {clauses}, {lead}{end}",
            _ => $"for {table.Name} with {phrases}, {lead}{end}",
        };
    }

    private static string Join(SplitMix random, DataTable table, TableQuery query, string[][] wordings) =>
        string.Join(" and ", query.Conditions.Select(condition => random.Pick(wordings[(int)condition.Comparison])
            .Replace("{a}", "aeiou".Contains(table.Header[condition.Column][0], StringComparison.Ordinal) ? "an" : "a", StringComparison.Ordinal)
            .Replace("{k}", table.Header[condition.Column], StringComparison.Ordinal)
            .Replace("{v}", condition.Value.Text, StringComparison.Ordinal)));

    private static IEnumerable<string> Words(string text) => WordPattern().Matches(text).Select(match => match.Value);

    [GeneratedRegex(@"(?<![{\w])[a-z]+")]
    private static partial Regex WordPattern();
}
