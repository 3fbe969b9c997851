namespace Engine.Cli.Demo;

/// <summary>
/// Short exercises in copying and looking up words that have never been seen before, and plain sentences that repeat
/// what they name. They are what makes a small model form its copying (induction) heads early in training.
/// </summary>
internal sealed class CopyExercises
{
    private readonly SplitMix _random;
    private readonly WordSource _words;

    /// <summary>Exercises over a source's words.</summary>
    /// <param name="random">Where the randomness comes from.</param>
    /// <param name="words">The words.</param>
    public CopyExercises(SplitMix random, WordSource words)
    {
        _random = random;
        _words = words;
    }

    /// <summary>One exercise.</summary>
    public BaseDocument Next()
    {
        switch (_random.PickWeighted([22, 8, 10, 10, 6, 16, 12, 16]))
        {
            case 0:
                List<string> copied = Items(4, 13);
                return new($"{string.Join(' ', copied)}\ncopy:\n", string.Join(' ', copied));
            case 1:
                List<string> reversed = Items(3, 7);
                return new($"{string.Join(' ', reversed)}\nreverse:\n", string.Join(' ', Enumerable.Reverse(reversed)));
            case 2:
                List<string> quoted = Items(3, 8);
                return new($"{string.Join(", ", quoted)}\nquote:\n", string.Join(", ", quoted.Select(word => $"'{word}'")));
            case 3:
                List<string> wrapped = Items(3, 8);
                string form = _random.Pick(["[{0}]", "({0})", "<{0}>", "\"{0}\"", "{0}.", "{0} =", "{0}: {0}", "{0}/{0}"]);
                string Wrap(string word) => form.Replace("{0}", word, StringComparison.Ordinal);
                return new(
                    $"{string.Join(' ', wrapped)}\nlike {Wrap(wrapped[0])}\n",
                    string.Join(' ', wrapped.Select(Wrap)));
            case 4:
                string capitals = string.Concat(Enumerable.Range(0, _random.Next(3, 8)).Select(_ => (char)('A' + _random.Next(26))));
                string more = string.Concat(Enumerable.Range(0, _random.Next(3, 8)).Select(_ => (char)('A' + _random.Next(26))));
                return new($"{capitals} {_words.Word()} {more} {_words.Number()}\n", $"{capitals} AND {more} AND {capitals}");
            case 5:
                return Lookup();
            case 6:
                return Between();
            default:
                return Sentences();
        }
    }

    private List<string> Items(int low, int high)
    {
        int count = _random.Next(low, high);
        return [.. Enumerable.Range(0, count).Select(_ => Item())];
    }

    private string Item() => _random.Chance(25) ? CellValue.Of(_words.Number()).Text : _words.Word();

    // Pairs, then one key: its value.
    private BaseDocument Lookup()
    {
        int count = _random.Next(3, 8);
        List<string> keys = [.. Enumerable.Range(0, count).Select(_ => _words.Column(_random.Chance(50))).Distinct()];
        List<string> values = [.. keys.Select(_ => Item())];
        string sign = _random.Pick(["=", " is ", ": ", " -> "]);
        string pairs = string.Join(", ", keys.Zip(values, (key, value) => key + sign + value));
        int asked = _random.Next(keys.Count);
        return _random.Chance(60)
            ? new($"{pairs}\n{keys[asked]}?\n", values[asked])
            : new($"{pairs}\nwhich is {values[asked]}?\n", keys[asked]);
    }

    // A list and one of its words: the next word, or the one before.
    private BaseDocument Between()
    {
        List<string> items = [.. Items(4, 9).Distinct()];
        if (items.Count < 2)
        {
            items = [.. items, .. new[] { "first", "last" }];
        }

        int at = _random.Next(items.Count - 1);
        string list = string.Join(", ", items);
        return _random.Next(3) switch
        {
            0 => new($"{list}\nafter {items[at]}?\n", items[at + 1]),
            1 => new($"{list}\nbefore {items[at + 1]}?\n", items[at]),
            _ => new($"{list}\nstarting at {items[at]}:\n", string.Join(", ", items.Skip(at))),
        };
    }

    private BaseDocument Sentences()
    {
        string table = _words.Table();
        string column = _words.Column(real: false);
        string measure = _words.Column(real: true);
        string value = _words.Text();
        int number = _words.Number();
        string lower = _random.Pick(["below", "under", "less than"]);
        string higher = _random.Pick(["above", "over", "more than"]);
        return _random.Next(5) switch
        {
            0 => new($"one of the {table} has the {column} {value}.", $" so its {column} is {value}, and we find {value} among the {table}."),
            1 => new($"the {measure} is {number} here and {column} is {value}.", $" {value} has a {measure} of {number}."),
            2 => new($"all {table} with {value} as the {column} are kept.", $" the {table} whose {column} is not {value} are left out."),
            3 => new($"a {measure} {higher} {number} is high for {table}.", $" most {table} have a {measure} {lower} {number}, and the average {measure} is {lower} {number} too."),
            _ => new($"{value} is a {column}.", $" is {value} a {measure}? no, {value} is a {column}; {number} is a {measure}."),
        };
    }
}
